"""A histogram of magnitudes that takes any number of arrays in constant memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 2048
LEVELS = 127


class Histogram:
    """Counts |x| in ``BINS`` bins over [0, ``top``]; where larger values come, neighbouring bins merge."""

    def __init__(self) -> None:
        self.top = 0.0
        self.peak = 0.0
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)

    def add(self, values: NDArray[Any]) -> None:
        magnitude = np.abs(values, dtype=np.float32).ravel()
        self.peak = max(self.peak, float(magnitude.max(initial=0.0)))
        if self.top == 0.0:
            self.top = self.peak
        if self.top == 0.0:  # nothing but zeros so far: any range holds them
            self.counts[0] += magnitude.size
            return
        while self.top < self.peak:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64)])
            self.top *= 2
        bins = np.minimum(magnitude * np.float32(BINS / self.top), np.float32(BINS - 1)).astype(np.int32)
        self.counts += np.bincount(bins, minlength=BINS)

    def minmax(self) -> float:
        """The largest magnitude seen."""
        return self.peak

    def mse(self) -> float:
        """The clipping point of a symmetric int8 range with the least mean squared error."""
        if self.peak == 0.0:
            return 0.0
        centres = (np.arange(BINS) + 0.5) * (self.top / BINS)
        candidates = self.peak * np.linspace(0.2, 1.0, 81)
        steps = (candidates / LEVELS)[:, None]
        rounded = np.minimum(np.round(centres / steps), LEVELS) * steps
        errors = ((centres - rounded) ** 2 * self.counts).sum(1)
        return float(candidates[errors.argmin()])
