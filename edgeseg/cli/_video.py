"""Videos, cameras and a window, by OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeseg.errors import InputError, MissingExtra

try:
    import cv2
except ImportError:
    raise MissingExtra("a video, a camera or a window", "opencv-python-headless", "video") from None


def frames(source: str) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Numbered frames, RGB uint8 H×W×3, of a file or a camera (its number or device).

    Raises:
        InputError: it does not open.
    """
    capture = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    if not capture.isOpened():
        capture.release()
        raise InputError(f"'{source}' does not open as an image, video or camera")
    return _read(capture, Path(source).stem)


def _read(capture: cv2.VideoCapture, stem: str) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    number = 0
    try:
        while (read := capture.read())[0]:
            yield f"{stem}-{number:06d}", np.ascontiguousarray(read[1][..., ::-1])
            number += 1
    finally:
        capture.release()


def show(image: NDArray[np.uint8], wait: bool) -> None:
    """Put RGB ``image`` into the window; ``wait`` for a key.

    Raises:
        InputError: this OpenCV or this machine has no windows.
    """
    try:
        cv2.imshow("edgeseg", np.ascontiguousarray(image[..., ::-1]))
        cv2.waitKey(0 if wait else 1)
    except cv2.error:
        raise InputError(
            "--show needs a display and an OpenCV with windows: pip install opencv-python in place of"
            " opencv-python-headless"
        ) from None
