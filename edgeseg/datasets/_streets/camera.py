"""A pinhole camera above the street.

Street coordinates, metres: x to the right of the road's centre line, y above the ground, z ahead. A bent
road is the straight one with ``x + bend·z²``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeseg.datasets._streets.noise import Plane

NEAR = 0.4
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """``rotation`` turns street axes into camera axes (right, up, ahead); ``focal`` is in pixels."""

    size: tuple[int, int]
    focal: float
    rotation: Points
    lateral: float
    height: float
    bend: float

    def relative(self, points: Points) -> Points:
        """Street coordinates N×3 → metres from the camera, along the street's axes."""
        moved = points - (self.lateral, self.height, 0.0)
        moved[:, 0] += self.bend * points[:, 2] ** 2
        return moved

    def project(self, points: Points) -> tuple[Points, Points]:
        """Street coordinates N×3 → pixels N×2 (x, y) and depth N; depth below NEAR is not in view."""
        seen = self.relative(points) @ self.rotation.T
        depth = seen[:, 2]
        scale = self.focal / np.maximum(depth, NEAR)
        height, width = self.size
        return np.stack((width / 2 + seen[:, 0] * scale, height / 2 - seen[:, 1] * scale), 1), depth

    def rays(self) -> tuple[Plane, Plane, Plane]:
        """The direction of each pixel along the street's axes, 1 long along the optical axis; each H×W."""
        height, width = self.size
        u = ((np.arange(width) - width / 2) / self.focal).astype(np.float32)
        v = ((height / 2 - np.arange(height)) / self.focal).astype(np.float32)[:, None]
        r = self.rotation.astype(np.float32)
        dx, dy, dz = (r[0, k] * u + (r[1, k] * v + r[2, k]) for k in range(3))
        return dx, dy, dz


def _rotation(yaw: float, pitch: float, roll: float) -> Points:
    (cy, cp, cr), (sy, sp, sr) = np.cos((yaw, pitch, roll)), np.sin((yaw, pitch, roll))
    turn = np.array(((cy, 0, -sy), (0, 1, 0), (sy, 0, cy)))
    nod = np.array(((1, 0, 0), (0, cp, -sp), (0, sp, cp)))
    tilt = np.array(((cr, sr, 0), (-sr, cr, 0), (0, 0, 1)))
    product: Points = tilt @ nod @ turn
    return product


def sample_camera(rng: np.random.Generator, size: tuple[int, int], half_road: float) -> Camera:
    """A camera in a car, on a robot on the road, or on a robot near the kerb."""
    yaw, pitch, roll = rng.normal(0.0, (0.09, 0.05, 0.015))
    return Camera(
        size=size,
        focal=float(rng.uniform(0.65, 1.15)) * max(size[1], size[0]),
        rotation=_rotation(yaw, pitch, roll),
        lateral=float(rng.uniform(-0.85, 0.85)) * half_road,
        height=float(rng.uniform(0.9, 2.4)),
        bend=float(rng.normal(0.0, 0.0012)) if rng.random() < 0.5 else 0.0,
    )
