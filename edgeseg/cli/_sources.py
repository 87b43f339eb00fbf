"""Where frames come from (an image, a folder of images, a video file, a camera) and where they show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeseg.datasets._images import images_in, is_image, read_frame
from edgeseg.errors import InputError


@dataclass(frozen=True)
class Source:
    """``frames`` yields (name, RGB uint8 H×W×3); ``count`` is None where only the end tells. A ``live``
    source has no end, a ``moving`` one shows its frames one after the other."""

    frames: Iterator[tuple[str, NDArray[np.uint8]]]
    count: int | None
    live: bool = False
    moving: bool = False


def open_source(text: str) -> Source:
    """``text``: a path, or a camera as its number or ``/dev/videoN``.

    Raises:
        InputError: nothing there, nothing readable in it. MissingExtra: a video without OpenCV.
    """
    path = Path(text)
    if text.isdecimal() or text.startswith("/dev/video"):
        return Source(_video(text), None, live=True, moving=True)
    if path.is_dir():
        images = images_in(path)
        if not images:
            raise InputError(f"no images in {path}")
        return Source(((image.stem, read_frame(image)) for image in images), len(images))
    if is_image(path):
        return Source(iter([(path.stem, read_frame(path))]), 1)
    if not path.is_file():
        raise InputError(f"no image, folder, video or camera at '{text}'")
    return Source(_video(text), None, moving=True)


def _video(text: str) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    from edgeseg.cli._video import frames

    return frames(text)


def show_window(image: NDArray[np.uint8], wait: bool) -> None:
    """Show RGB ``image`` uint8 H×W×3; ``wait`` for a key."""
    from edgeseg.cli._video import show

    show(image, wait)
