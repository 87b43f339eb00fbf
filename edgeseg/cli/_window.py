"""A window that shows frames, by OpenCV."""

from __future__ import annotations

import os
import sys

import numpy as np

from edgeseg.cli._sources import Frame
from edgeseg.errors import InputError

MEND = "--show needs an OpenCV with windows: pip uninstall opencv-python-headless, then pip install opencv-python"
try:
    import cv2
except ImportError:
    raise InputError(MEND) from None

TITLE = "edgeseg"
ENDS = (27, ord("q"))  # Escape


def open_window() -> None:
    """Raises InputError where this OpenCV or this machine has no windows."""
    if not cv2.currentUIFramework():
        raise InputError(MEND)
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        # OpenCV's Qt would end the whole process.
        raise InputError(
            "--show needs a display, and DISPLAY names none: log in on one, use ssh -X, or leave --show out"
        )
    try:
        cv2.namedWindow(TITLE)
    except cv2.error as error:
        raise InputError(f"--show: no window opens ({error.err}): leave --show out") from None


def show(image: Frame, wait: bool) -> bool:
    """Put RGB ``image`` uint8 H×W×3 into the window; ``wait`` for a key. Whether the user wants to see more: not after
    q, Escape, or when the window is closed."""
    cv2.imshow(TITLE, np.ascontiguousarray(image[..., ::-1]))
    key = cv2.waitKey(1)
    while key < 0 and wait and _open():
        key = cv2.waitKey(50)
    return key not in ENDS and _open()


def _open() -> bool:
    return bool(cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1)
