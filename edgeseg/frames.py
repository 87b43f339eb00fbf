"""Frames as cameras have them become RGB, in NumPy, and in OpenCV where it is installed.

OpenCV gives the same pictures within 2 of 255, many times faster. YUV is BT.601 of limited range (ITU-R BT.601-7,
section 2.5.4), which V4L2 cameras send unless told otherwise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.spec import Preprocess

Frame = NDArray[np.uint8]
LONGEST, MOST = 32766, 1 << 26  # a frame's side, which OpenCV counts in 16 bits, and its pixels


@dataclass(frozen=True)
class Encoding:
    """How H×W pixels lie in an array: ``form`` names its axes, ``shape`` gives it for a size, ``size`` the reverse;
    ``even`` lists what must be even; ``rgb`` makes RGB in NumPy, ``opencv`` names the same in OpenCV."""

    form: str
    shape: Callable[[int, int], tuple[int, ...]]
    rgb: Callable[[Frame], Frame]
    opencv: str
    rows: int = 1  # H and W are multiples of these
    columns: int = 1

    def size(self, frame: Frame) -> tuple[int, int] | None:
        """The (height, width) of ``frame``, None where it is not of this encoding."""
        if frame.ndim < 2:
            return None
        height, width = frame.shape[:2]
        if self.shape(2, 2)[0] == 3:  # the planes of NV12 stand below each other
            height = height * 2 // 3
        right = self.shape(height, width) == frame.shape and not (height % self.rows or width % self.columns)
        return (height, width) if right and height and width else None


def _yuv(y: NDArray[Any], u: NDArray[Any], v: NDArray[Any]) -> Frame:
    luma = 255 / 219 * (np.maximum(y, 16).astype(np.float32) - 16)
    blue, red = (255 / 224 * (c.astype(np.float32) - 128) for c in (u, v))
    rgb = np.empty((*y.shape, 3), np.uint8)
    for i, channel in enumerate(
        (luma + 1.402 * red, luma - (0.202008 * blue + 0.419198 * red) / 0.587, luma + 1.772 * blue)
    ):
        rgb[..., i] = np.clip(np.rint(channel), 0, 255)
    return rgb


def _nv12(frame: Frame) -> Frame:
    height = frame.shape[0] * 2 // 3
    chroma = frame[height:].reshape(height // 2, -1, 2).repeat(2, 0).repeat(2, 1)
    return _yuv(frame[:height], chroma[..., 0], chroma[..., 1])


def _yuyv(frame: Frame) -> Frame:
    u, v = (frame[:, first::2, 1].repeat(2, 1) for first in (0, 1))
    return _yuv(frame[..., 0], u, v)


def _flipped(frame: Frame) -> Frame:
    return np.ascontiguousarray(frame[..., 2::-1])


ENCODINGS = {
    "rgb8": Encoding("[H, W, 3]", lambda h, w: (h, w, 3), lambda f: f, ""),
    "bgr8": Encoding("[H, W, 3]", lambda h, w: (h, w, 3), _flipped, "COLOR_BGR2RGB"),
    "rgba8": Encoding("[H, W, 4]", lambda h, w: (h, w, 4), lambda f: f[..., :3], "COLOR_RGBA2RGB"),
    "bgra8": Encoding("[H, W, 4]", lambda h, w: (h, w, 4), _flipped, "COLOR_BGRA2RGB"),
    "mono8": Encoding("[H, W]", lambda h, w: (h, w), lambda f: np.repeat(f[..., None], 3, 2), "COLOR_GRAY2RGB"),
    "nv12": Encoding("[H × 3/2, W]", lambda h, w: (h * 3 // 2, w), _nv12, "COLOR_YUV2RGB_NV12", 2, 2),
    "yuyv": Encoding("[H, W, 2]", lambda h, w: (h, w, 2), _yuyv, "COLOR_YUV2RGB_YUY2", 1, 2),
}


def check(frame: Any, encoding: str, size: tuple[int, int] | None = None) -> tuple[int, int]:
    """The (height, width) of ``frame``, a uint8 array of ``encoding``, one of ``ENCODINGS``.

    Raises:
        InputError: another encoding, no array, another dtype, shape or, where it is given, ``size``.
    """
    kind = ENCODINGS.get(encoding) if isinstance(encoding, str) else None
    if kind is None:
        raise InputError(f"unknown encoding {encoding!r}: use one of {', '.join(ENCODINGS)}")
    want = kind.form if size is None else str(list(kind.shape(*size)))
    if not isinstance(frame, np.ndarray):
        raise InputError(f"a frame must be a NumPy array, uint8 {want}, not {type(frame).__name__}")
    found = kind.size(frame) if frame.dtype == np.uint8 else None
    if found is None or (size is not None and found != size):
        of = "" if encoding == "rgb8" else f" for {encoding}"
        even = ", H and W even" if kind.rows == 2 else ", W even" if kind.columns == 2 else ""
        hint = "; resize=True takes other sizes" if found else ""
        raise InputError(f"a frame must be uint8 {want}{even}{of}, got {frame.dtype} {list(frame.shape)}{hint}")
    if max(found) > LONGEST or found[0] * found[1] > MOST:
        raise InputError(f"a frame of {list(found)} is too large: at most {LONGEST} a side and {MOST} pixels")
    return found


def to_rgb(frame: Frame, encoding: str = "rgb8", size: tuple[int, int] | None = None) -> Frame:
    """``frame`` of ``encoding`` as RGB uint8 H×W×3: itself where it is, else a view or a new array; at (height,
    width) ``size`` where that is given, bilinear at half-pixel centres without antialiasing, as engines resize.
    Rows may lie apart and run backwards.

    Raises:
        InputError: as ``check``.
    """
    own = check(frame, encoding)
    if encoding != "rgb8":
        cv2, kind = _opencv(), ENCODINGS[encoding]
        frame = cv2.cvtColor(_rows(frame), getattr(cv2, kind.opencv)) if cv2 else kind.rgb(frame)
    return frame if size is None or size == own else resize(frame, size)


def resize(frame: Frame, size: tuple[int, int]) -> Frame:
    """RGB ``frame`` uint8 H×W×3 at (height, width) ``size``: bilinear, half-pixel centres, no antialiasing."""
    if cv2 := _opencv():
        resized: Frame = cv2.resize(_rows(frame), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        return resized
    return np.rint(bilinear(bilinear(frame, size[0], 0), size[1], 1)).astype(np.uint8)


def enlarged(labels: Frame, size: tuple[int, int], out: Frame | None = None) -> Frame:
    """``labels`` uint8 H×W at (height, width) ``size``, nearest at half-pixel centres; into ``out`` where given."""
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * have / n).astype(np.intp), have - 1)
        for n, have in zip(size, labels.shape, strict=True)
    )
    return np.take(np.take(labels, columns, 1), rows, 0, out=out, mode="clip")  # clip: NumPy then needs no copy of out


def letterbox_frame(frame: Frame, size: tuple[int, int], fill: tuple[float, ...]) -> tuple[Frame, NDArray[np.float32]]:
    """``frame`` uint8 H×W×3 in its own shape at the top left of (height, width), the rest of colour ``fill``; with
    it the factors (x y x y) from the frame's coordinates to those of the result.

    Bilinear at half-pixel centres without antialiasing, as detectors' letterboxing in the graph and in training."""
    height, width = frame.shape[:2]
    inner = Preprocess(size, letterbox=True).fitted((height, width))
    scale = np.array([inner[1] / width, inner[0] / height] * 2, np.float32)
    if (height, width) == size:
        return frame, scale
    boxed = np.empty((*size, 3), np.uint8)
    boxed[:] = np.round(fill)
    boxed[: inner[0], : inner[1]] = np.round(bilinear(bilinear(frame, inner[0], 0), inner[1], 1))
    return boxed, scale


def bilinear(values: NDArray[np.uint8 | np.float32], length: int, axis: int) -> NDArray[np.float32]:
    """``values`` with ``length`` in place of ``axis``'s own, interpolated at half-pixel centres."""
    have = values.shape[axis]
    place = np.clip((np.arange(length) + 0.5) * have / length - 0.5, 0, have - 1)
    low = place.astype(np.intp)
    share = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    a, b = (np.take(values, i, axis).astype(np.float32) for i in (low, np.minimum(low + 1, have - 1)))
    mixed: NDArray[np.float32] = a + (b - a) * share
    return mixed


def _rows(frame: Frame) -> Frame:
    """``frame`` with rows that OpenCV takes: forwards, each whole; they may lie apart."""
    inner, width = frame.strides[1:], frame.shape[1:]
    whole = inner[-1] == 1 and (len(inner) == 1 or inner[0] == width[-1])
    return frame if whole and frame.strides[0] >= int(np.prod(width)) else np.ascontiguousarray(frame)


@functools.cache
def _opencv() -> Any:
    """OpenCV, None where it is not installed."""
    try:
        import cv2
    except ImportError:
        return None
    return cv2
