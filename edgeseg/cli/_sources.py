"""Where frames come from: an image, a folder of images, a video file, a camera, a stream of the network."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeseg.datasets._images import images_in, is_image, read_frame
from edgeseg.errors import InputError

Frame = NDArray[np.uint8]
Tell = Callable[[str], object]  # takes a line for the user


@dataclass(frozen=True)
class Source:
    """``frames`` yields (name, RGB uint8 H×W×3) of every frame that is asked for; ``count`` of them, None where only
    the end tells. A ``live`` source does not wait and is opened again when it breaks off, until ``stop`` is set; a
    ``moving`` one shows its frames one after the other."""

    frames: Iterator[tuple[str, Frame]]
    count: int | None
    live: bool = False
    moving: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()


def open_source(text: str, every: int, retries: int, tell: Tell) -> Source:
    """``text``: a path; a camera as its number or device file; or a URL. Each ``every``-th frame of it. A live source
    that breaks off is opened again up to ``retries`` times in a row.

    Raises:
        InputError: nothing there, nothing readable in it. MissingExtra: a video without OpenCV.
    """
    path = Path(text)
    if text.isdecimal() or text.startswith("/dev/") or "://" in text:
        return _video(text, every, retries, tell)
    if path.is_dir():
        images = images_in(path)[::every]
        if not images:
            raise InputError(f"no images in {path}")
        return Source(((image.stem, read_frame(image)) for image in images), len(images))
    if is_image(path):
        return Source(iter([(path.stem, read_frame(path))]), 1)
    if not path.is_file():
        raise InputError(f"no image, folder, video or camera at '{text}'")
    return _video(text, every, retries, tell)


def told(text: str) -> str:
    """``text`` for people's eyes: a URL without its user and password."""
    return re.sub(r"(?<=://)[^/@]*@", "", text)


def _video(text: str, every: int, retries: int, tell: Tell) -> Source:
    from edgeseg.cli._video import open_video

    return open_video(text, every, retries, tell)
