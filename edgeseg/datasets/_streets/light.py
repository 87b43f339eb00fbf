"""Light and weather of a scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Light:
    """``sun`` points to the sun (x, y, z). Colours are linear RGB; ``fog`` is extinction per metre;
    ``cover`` is the clouded fraction of the sky, ``wet`` how much the ground mirrors the sky, 0..1."""

    sun: Vector
    direct: Vector
    ambient: Vector
    zenith: Vector
    horizon: Vector
    fog: float
    cover: float
    wet: float
    rain: bool

    def on(self, normals: Vector) -> Vector:
        """Irradiance on surfaces with unit ``normals`` N×3: N×3 RGB."""
        facing = np.maximum(normals @ self.sun, 0.0)
        # Half of the sky is seen by a wall, all of it by the ground.
        total: Vector = facing[:, None] * self.direct + (0.75 + 0.25 * normals[:, 1:2]) * self.ambient
        return total


def sample_light(rng: np.random.Generator) -> Light:
    """Clear (2 in 5), overcast, rain or fog, at a time of day from dawn to noon."""
    kind = rng.choice(4, p=(0.42, 0.28, 0.15, 0.15))  # clear, overcast, rain, fog
    elevation, azimuth = rng.uniform(0.12, 1.15), rng.uniform(-np.pi, np.pi)
    flat = np.cos(elevation)
    sun = np.array((flat * np.sin(azimuth), np.sin(elevation), flat * np.cos(azimuth)), np.float32)
    warm = np.array((1.0, 0.62 + 0.36 * np.sin(elevation), 0.3 + 0.62 * np.sin(elevation)))
    day = 0.45 + 0.55 * np.sin(elevation)
    gloom = (0.0, 0.75, 0.85, 0.8)[kind]
    grey = np.full(3, rng.uniform(0.55, 0.95)) * (1.0, 1.0, rng.uniform(0.97, 1.08))
    blue = np.array((0.25, 0.45, 0.85)) * rng.uniform(0.7, 1.1)
    pale = 0.5 * warm + 0.5 * np.array((0.75, 0.85, 0.95))
    zenith, horizon = ((1 - gloom) * a + gloom * grey for a in (blue, pale))
    fog = (rng.uniform(0, 0.003), rng.uniform(0, 0.006), rng.uniform(0.003, 0.012), rng.uniform(0.012, 0.05))[kind]
    return Light(
        sun=sun,
        direct=(1.1 * (1 - gloom) * warm).astype(np.float32),
        ambient=((0.45 + 0.4 * gloom) * (0.6 + 0.4 * horizon)).astype(np.float32) * np.float32(day),
        zenith=(zenith * day).astype(np.float32),
        horizon=(horizon * day).astype(np.float32),
        fog=float(fog),
        cover=float(rng.uniform(0.0, 0.6) if kind == 0 else rng.uniform(0.5, 1.0)),
        wet=float((0.0, 0.0, rng.uniform(0.2, 0.7), 0.1)[kind]),
        rain=bool(kind == 2),
    )
