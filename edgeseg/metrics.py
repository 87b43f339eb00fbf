"""Figures of merit for label maps and tensors, in NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.errors import InputError

TITLES = {"miou": "mIoU", "map": "AP"}  # of the metrics, as tables name them


def confusion(
    labels: NDArray[np.integer[Any]],
    predicted: NDArray[np.integer[Any]],
    classes: int,
    ignore_index: int | None = None,
) -> NDArray[np.int64]:
    """Count pixels by (true class, predicted class): int64 C×C. Matrices of several images add up.

    ``labels`` and ``predicted`` hold class ids and have one shape. Pixels labelled ``ignore_index`` are not
    counted; the same id as a *prediction* on a labelled pixel is, as the error it is.

    Raises:
        InputError: the shapes differ, or an id is no class.
    """
    if labels.shape != predicted.shape:
        raise InputError(f"labels are {list(labels.shape)}, the prediction is {list(predicted.shape)}")
    scored = np.ones(labels.shape, bool) if ignore_index is None else labels != ignore_index
    truth, answer = labels[scored].astype(np.int64), predicted[scored].astype(np.int64)
    for what, ids in (("label", truth), ("predicted", answer)):
        stray = ids[(ids < 0) | (ids >= classes)]
        if stray.size:
            raise InputError(f"{what} id {stray[0]} is none of {classes} classes (0 to {classes - 1})")
    return np.bincount(classes * truth + answer, minlength=classes * classes).reshape(classes, classes)


def miou(confusion: NDArray[np.int64], ignore_index: int | None = None) -> tuple[float, NDArray[np.float64]]:
    """Mean intersection over union and that of each class, in points (0 to 100), float64 C.

    IoU = true positives / (true positives + false positives + false negatives), over all images at once, as
    PASCAL VOC (Everingham et al., 2010, §4.2) and Cityscapes (arXiv:1604.01685, §4.1) define it. A class that
    the truth does not hold, and the class ``ignore_index``, are NaN and left out of the mean: on a few images
    one stray pixel of such a class would otherwise cost points. It still costs the class it was taken for.
    """
    hit, truth = np.diag(confusion).astype(np.float64), confusion.sum(1)
    union = truth + confusion.sum(0) - hit
    scored = truth > 0
    if ignore_index is not None:
        scored &= np.arange(len(hit)) != ignore_index
    each = np.divide(100 * hit, union, out=np.full(len(hit), np.nan), where=scored)
    return float(np.mean(each[scored])) if scored.any() else float("nan"), each


def agreement(a: NDArray[np.integer[Any]], b: NDArray[np.integer[Any]]) -> float:
    """Share of equal pixels of two label maps of one shape, 0 to 1.

    Raises:
        InputError: the shapes differ.
    """
    if a.shape != b.shape:
        raise InputError(f"label maps of {list(a.shape)} and {list(b.shape)} cannot be compared")
    return float(np.mean(a == b))


def jackknife(left_out: Sequence[float]) -> float:
    """Standard error of a figure, from its values with each of several equal groups of images left out
    (Efron and Stein, 1981, doi:10.1214/aos/1176345462); NaN for fewer than two."""
    if len(left_out) < 2:
        return float("nan")
    return float(np.sqrt(len(left_out) - 1) * np.std(left_out))


def sqnr_db(reference: NDArray[Any], value: NDArray[Any]) -> float:
    """Signal to quantization-noise ratio 10·log₁₀(Σr² / Σ(r-v)²) in decibels; infinite where they are equal.

    Raises:
        InputError: the shapes differ.
    """
    if reference.shape != value.shape:
        raise InputError(f"tensors of {list(reference.shape)} and {list(value.shape)} cannot be compared")
    signal = np.asarray(reference, np.float64)
    noise = float(np.sum((signal - np.asarray(value, np.float64)) ** 2))
    power = float(np.sum(signal**2))
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(power / noise)) if power else float("-inf")
