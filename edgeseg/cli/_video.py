"""Videos, cameras and streams of the network, by OpenCV; live ones are opened again when they break off."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

import numpy as np

from edgeseg.cli._sources import Frame, Source, Tell, told
from edgeseg.errors import InputError, MissingExtra

# What OpenCV and FFmpeg print by themselves would stand between our lines; both read this when they start.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
try:
    import cv2
except ImportError:
    raise MissingExtra("a video, a camera or a stream", "opencv-python-headless", "video") from None

SILENCE_MS = 10_000  # after which a stream of the network counts as broken; a V4L2 camera has OpenCV's own 10 s
FIRST_S, LONGEST_S = 0.5, 8.0  # pauses before a source is opened again, each twice the one before


def open_video(text: str, every: int, retries: int, tell: Tell) -> Source:
    """``text``: a file, a camera (its number or device file) or a URL; otherwise as ``open_source``.

    Raises:
        InputError: it does not open; from its frames: it gives none, or broke off for good.
    """
    capture = _open(text)
    if capture is None:
        raise InputError(f"'{told(text)}' does not open as an image, video or camera: {_mend(text)}")
    count = int(max(0, capture.get(cv2.CAP_PROP_FRAME_COUNT)))  # negative where a stream has no end
    live = _is_camera(text) or ("://" in text and not count)
    stop = Event()
    frames = _frames(text, capture, every, retries if live else 0, live, tell, stop)
    return Source(frames, None if live or not count else -(-count // every), live, moving=True, stop=stop)


def _is_camera(text: str) -> bool:
    return text.isdecimal() or text.startswith("/dev/")


def _mend(text: str) -> str:
    if _is_camera(text):
        return "is it plugged in, free, and may you read it (edgeseg doctor lists cameras)?"
    if "://" in text:
        return "is the address right and its server up?"
    return "is the file whole, and of a kind that OpenCV reads?"


def _open(text: str) -> cv2.VideoCapture | None:
    if "://" in text:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, SILENCE_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, SILENCE_MS]
        capture = cv2.VideoCapture(text, cv2.CAP_ANY, limits)
    else:
        capture = cv2.VideoCapture(int(text) if text.isdecimal() else text)
    if capture.isOpened():
        return capture
    capture.release()
    return None


def _stem(text: str) -> str:
    """What the files of this source's frames are called."""
    if "://" not in text:
        return Path(text).stem
    url = urlsplit(text)
    return re.sub(r"[^\w.-]+", "_", Path(url.path).stem or url.hostname or "") or "stream"


def _frames(
    text: str, capture: cv2.VideoCapture, every: int, retries: int, live: bool, tell: Tell, stop: Event
) -> Iterator[tuple[str, Frame]]:
    number, stem, grabbed = 0, _stem(text), None
    while True:
        try:
            grabbed = capture.grab() if grabbed is None else grabbed
            while grabbed and not stop.is_set():
                if number % every == 0:
                    read, frame = capture.retrieve()
                    if not read:
                        break
                    rgb: Frame = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
                    yield f"{stem}-{number:06d}", rgb
                number += 1
                grabbed = capture.grab()
        finally:
            capture.release()
        if stop.is_set() or (number and not live):
            return
        if not number:
            raise InputError(f"'{told(text)}' opens, but gives no frame: {_mend(text)}")
        again = _again(text, retries, f"after {number} frames", tell, stop)
        if again is None:
            return
        capture, grabbed = again, True


def _again(text: str, retries: int, after: str, tell: Tell, stop: Event) -> cv2.VideoCapture | None:
    """The source opened anew, its first frame grabbed; None when ``stop`` is set.

    Raises:
        InputError: it does not come back.
    """
    began = time.monotonic()
    if retries:
        tell(f"'{told(text)}' broke off {after}; opening it again, up to {retries} times")
    for attempt in range(retries):
        if stop.wait(min(FIRST_S * 2**attempt, LONGEST_S)):
            return None
        capture = _open(text)
        if capture is not None and capture.grab():
            tell(f"'{told(text)}' is back after {time.monotonic() - began:.1f} s")
            return capture
        if capture is not None:
            capture.release()
    raise InputError(f"'{told(text)}' broke off {after} and did not come back: {_mend(text)}")
