"""The camera's optics and sensor: exposure, white balance, vignetting, blur, noise, 8 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeseg.datasets._streets.noise import Plane


def _blur(image: Plane, weight: float) -> None:
    """Three taps down, then three across, in place; the outer ones weigh ``weight``."""
    for axis in (1, 2):
        inside, low, high = ([slice(None)] * 3 for _ in range(3))
        inside[axis], low[axis], high[axis] = slice(1, -1), slice(None, -2), slice(2, None)
        beside = image[tuple(low)] + image[tuple(high)]
        beside *= np.float32(weight)
        middle = image[tuple(inside)]
        middle *= np.float32(1 - 2 * weight)
        middle += beside


def expose(rng: np.random.Generator, radiance: Plane) -> NDArray[np.uint8]:
    """Linear radiance 3×H×W (overwritten) → uint8 H×W×3."""
    image, (height, width) = radiance, radiance.shape[1:]
    # A camera meters the middle tones: a bright sky must not make the street black.
    metered = np.minimum(image[:, ::4, ::4].mean(0), 0.9)
    level = float(rng.uniform(0.34, 0.54)) / max(0.5 * float(metered.mean() + np.median(metered)), 0.03)
    balance = level * (1.0 + rng.normal(0.0, 0.05, 3) * (1.0, 0.3, 1.0))
    _blur(image, float(rng.uniform(0.0, 0.24)))
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None] ** 2
    right = np.linspace(-1, 1, width, dtype=np.float32) ** 2
    image *= np.float32(1.0) - np.float32(rng.uniform(0.0, 0.2)) * (down + right)
    image *= balance.astype(np.float32)[:, None, None]
    noise = rng.standard_normal(image.shape, np.float32)
    noise *= np.float32(rng.uniform(0.006, 0.045))
    image += noise
    np.clip(image, 0.0, 1.0, out=image)
    bow = image * image  # a mild tone curve that keeps 0 and 1: x + k (x - x²)
    bow -= image
    bow *= np.float32(-rng.uniform(-0.2, 0.6))
    image += bow
    image *= np.float32(255.0)
    return np.ascontiguousarray(image.astype(np.uint8).transpose(1, 2, 0))
