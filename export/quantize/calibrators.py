"""From a tensor's histogram to its range: where a symmetric int8 scale clips.

``weighted`` clips where the squared error is least that reaches the network's answer, ``mse`` where the tensor's own
is, ``minmax`` never, ``percentile:P`` at the magnitude that P % of the values do not exceed, ``entropy`` where the
clipped histogram loses the least information by its 128 levels (Migacz,
"8-bit Inference with TensorRT", GTC 2017). Which is best on which network: docs/int8.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.quantize.histogram import BINS, LEVELS, Histogram

Calibrator = Callable[[Histogram], float]
DEFAULT = "weighted"
PERCENTILE = 99.99
FINEST = 1 / 8  # of the peak: below that a step is less than two bins
FORMS = "weighted, mse, minmax, percentile:P with 50 ≤ P ≤ 100, or entropy"


def calibrator(text: str) -> Calibrator:
    """The calibrator called ``text``: "weighted", "mse", "minmax", "percentile" (99.99), "percentile:P" or "entropy".

    Raises:
        InputError: none of these.
    """
    if text in PLAIN:
        return PLAIN[text]
    name, colon, number = text.partition(":")
    try:
        percent = float(number) if colon else PERCENTILE
    except ValueError:
        percent = np.nan
    if name != "percentile" or not 50 <= percent <= 100:
        raise InputError(f"no calibrator '{text}': use {FORMS}")
    return lambda histogram: percentile(histogram, percent)


def minmax(histogram: Histogram) -> float:
    """The largest magnitude seen."""
    return histogram.peak


def percentile(histogram: Histogram, percent: float) -> float:
    """The magnitude that ``percent`` of the values do not exceed, to the upper end of its bin."""
    if percent == 100:
        return histogram.peak
    below = histogram.counts.cumsum()
    bin = int(np.searchsorted(below, percent / 100 * below[-1]))
    return min(histogram.peak, (bin + 1) * histogram.top / BINS)


def mse(histogram: Histogram) -> float:
    """The clipping point with the least mean squared error."""
    return _least(histogram, histogram.counts)


def weighted(histogram: Histogram) -> float:
    """That with the least sum of squared errors, each times the square of the answer's derivative; where that is not
    known, as ``mse``."""
    return _least(histogram, histogram.weights if histogram.weights.any() else histogram.counts)


def _least(histogram: Histogram, weights: NDArray[np.int64] | NDArray[np.float64]) -> float:
    if histogram.peak == 0.0:
        return 0.0
    centres = (np.arange(BINS) + 0.5) * (histogram.top / BINS)
    candidates = histogram.peak * np.geomspace(FINEST, 1.0, 81)
    steps = (candidates / LEVELS)[:, None]
    rounded = np.minimum(np.round(centres / steps), LEVELS) * steps
    errors = ((centres - rounded) ** 2 * weights).sum(1)
    return float(candidates[errors.argmin()])


def entropy(histogram: Histogram) -> float:
    """The clipping point with the least Kullback-Leibler divergence.

    For the first i bins, what lies beyond counted in the last of them (P), against their sums over 128 equal parts,
    each spread evenly over its bins that are not empty (Q). With N values in all, o beyond, c in a bin, s in a part and
    k of its bins filled, N·KL = Σ P log(P/N) − Σ s log(s/k) − o log(s/k of the last part) + N log Σ s: sums over bins
    and parts alone, so all i are tried at once. A last part that has nothing but what lies beyond counts as one value:
    the method does not say what becomes of the infinite divergence there, at which a lone outlier is never clipped.
    """
    counts = histogram.counts.astype(np.float64)
    used = 0 if histogram.peak == 0.0 else int(np.ceil(histogram.peak / histogram.top * BINS))
    if used <= LEVELS + 1:  # no part would join bins
        return histogram.peak
    sizes, edges = _parts()
    sizes, edges = sizes[: used - LEVELS], edges[: used - LEVELS]
    sums, filled, logs = (np.append(0.0, v.cumsum()) for v in (counts, counts > 0, _xlogx(counts)))
    beyond, last = counts.sum() - sums[sizes], counts[sizes - 1]
    part, bins = np.diff(sums[edges], axis=1), np.diff(filled[edges], axis=1)
    bins[:, -1] += (last == 0) & (beyond > 0)
    level = np.log(np.maximum(part, 1) / np.maximum(bins, 1))
    whole = sums[sizes] + ((part[:, -1] == 0) & (beyond > 0))
    own = logs[sizes - 1] + _xlogx(last + beyond)
    divergence = own - (part * level).sum(1) - beyond * level[:, -1] + counts.sum() * np.log(whole / counts.sum())
    return min(histogram.peak, float(sizes[divergence.argmin()]) * histogram.top / BINS)


def _xlogx(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x * np.log(np.maximum(x, 1))  # counts: whole numbers


@cache
def _parts() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many bins may be kept, and for each how many its 128 parts begin after: 129 ends."""
    sizes = np.arange(LEVELS + 1, BINS + 1)
    return sizes, -(-np.arange(LEVELS + 2) * sizes[:, None] // (LEVELS + 1))


PLAIN: dict[str, Calibrator] = {"weighted": weighted, "mse": mse, "minmax": minmax, "entropy": entropy}
