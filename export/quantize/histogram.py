"""A histogram of magnitudes that takes any number of arrays in constant memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 2048
LEVELS = 127
CHUNK = 1 << 20  # values that are counted at once


class Histogram:
    """Counts |x| in ``BINS`` bins over [0, ``top``]; where larger values come, neighbouring bins merge.
    ``peak`` is the largest magnitude seen. ``weights``: by bin, what squared errors of its values count for in the
    network's answer; zeros where that is not known."""

    def __init__(self) -> None:
        self.top = 0.0
        self.peak = 0.0
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.weights: NDArray[np.float64] = np.zeros(BINS)

    def add(self, values: NDArray[Any]) -> None:
        """Raises ValueError for values that are not finite."""
        peak = float(max(values.max(initial=0.0), -values.min(initial=0.0)))
        if not np.isfinite(peak):
            raise ValueError("values that are not finite have no range")
        self.peak = max(self.peak, peak)
        if self.top == 0.0:
            self.top = self.peak
        if self.top == 0.0:  # nothing but zeros so far: any range holds them
            self.counts[0] += values.size
            return
        while self.top < self.peak:
            self.counts, self.weights = _halved(self.counts), _halved(self.weights)
            self.top *= 2
        flat = values.reshape(-1)
        for start in range(0, flat.size, CHUNK):
            share = np.abs(flat[start : start + CHUNK], dtype=np.float32)
            share /= np.float32(self.top)
            share *= BINS
            bins = np.minimum(share, BINS - 1, out=share).astype(np.intp)
            self.counts += np.bincount(bins, minlength=BINS)


def _halved(bins: NDArray[Any]) -> NDArray[Any]:
    """Neighbours merged, and as many empty bins behind."""
    return np.concatenate([bins.reshape(-1, 2).sum(1), np.zeros(BINS // 2, bins.dtype)])
