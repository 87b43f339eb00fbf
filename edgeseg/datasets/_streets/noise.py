"""One fixed tile of 1/f noise, looked up at world coordinates: the texture of every surface."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
TILE = 256


@cache
def tile() -> Plane:
    """TILE·TILE float32, row by row, periodic, zero mean, unit variance; amplitude falls as 1/frequency."""
    white = np.random.default_rng(1606).standard_normal((TILE, TILE))
    fy, fx = np.fft.fftfreq(TILE), np.fft.rfftfreq(TILE)
    frequency = np.hypot(fy[:, None], fx)
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(white) / frequency)
    flat: Plane = (noise / noise.std()).astype(np.float32).ravel()
    return flat


def sample(u: Plane, v: Plane, per_metre: Plane | np.float32 | float) -> Plane:
    """Noise at (u, v) metres, nearest entry of the tile."""
    column = (u * per_metre).astype(np.int32) & (TILE - 1)
    row = (v * per_metre).astype(np.int32) & (TILE - 1)
    return np.take(tile(), row * TILE + column)
