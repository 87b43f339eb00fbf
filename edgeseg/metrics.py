"""Task and signal metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def confusion(labels: NDArray[Any], predicted: NDArray[Any], classes: int, ignore_index: int | None = None) -> NDArray[np.int64]:
    """Pixel counts, int64 classes×classes, rows the truth; pixels whose truth is ``ignore_index`` are left out."""
    keep = labels < classes
    if ignore_index is not None:
        keep &= labels != ignore_index
    pairs = labels[keep].astype(np.int64) * classes + predicted[keep]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def miou(counts: NDArray[np.int64]) -> tuple[float, list[float]]:
    """Mean intersection over union in points (0 to 100) and that of each class, NaN where it has no truth.

    A class without truth is not averaged; predicting it still costs the classes it was predicted for.
    """
    hit = np.diag(counts).astype(np.float64)
    truth = counts.sum(1)
    union = truth + counts.sum(0) - hit
    per_class = np.where(truth > 0, 100 * hit / np.maximum(union, 1), np.nan)
    return (float(np.nanmean(per_class)) if (truth > 0).any() else float("nan")), [float(v) for v in per_class]


def agreement(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Share of equal elements, 0 to 1."""
    return float((a == b).mean())


def sqnr_db(reference: NDArray[Any], value: NDArray[Any]) -> float:
    """Signal-to-quantization-noise ratio in dB; infinite where they are equal."""
    noise = np.square(reference.astype(np.float64) - value).mean()
    return float("inf") if noise == 0 else float(10 * np.log10(np.square(reference.astype(np.float64)).mean() / noise))
