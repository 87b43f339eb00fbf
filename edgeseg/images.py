"""Resizing frames and label maps outside the graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeseg.spec import Preprocess


def resize_frame(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """``frame`` uint8 H×W×3 at (height, width), bilinear with antialiasing."""
    if frame.shape[:2] == size:
        return frame
    return np.asarray(Image.fromarray(frame).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def resize_labels(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """``labels`` uint8 H×W at (height, width), nearest."""
    if labels.shape == size:
        return labels
    return np.asarray(Image.fromarray(labels).resize((size[1], size[0]), Image.Resampling.NEAREST))


def letterbox_frame(
    frame: NDArray[np.uint8], size: tuple[int, int], fill: tuple[float, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
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
    boxed[: inner[0], : inner[1]] = np.round(_bilinear(_bilinear(frame, inner[0], 0), inner[1], 1))
    return boxed, scale


def _bilinear(values: NDArray[np.uint8 | np.float32], length: int, axis: int) -> NDArray[np.float32]:
    have = values.shape[axis]
    place = np.clip((np.arange(length) + 0.5) * have / length - 0.5, 0, have - 1)
    low = place.astype(np.intp)
    share = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    a, b = (np.take(values, i, axis).astype(np.float32) for i in (low, np.minimum(low + 1, have - 1)))
    mixed: NDArray[np.float32] = a + (b - a) * share
    return mixed
