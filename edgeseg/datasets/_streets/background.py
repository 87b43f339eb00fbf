"""Ground and sky: shaded per pixel from the rays, under everything that is drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeseg.datasets._streets import classes as c
from edgeseg.datasets._streets.camera import Camera
from edgeseg.datasets._streets.light import Light
from edgeseg.datasets._streets.noise import Plane, sample
from edgeseg.datasets._streets.street import Street

LIMIT = 400.0  # metres: beyond it the ground is all haze
Rays = tuple[Plane, Plane, Plane]


def sky(rng: np.random.Generator, rays: Rays, light: Light) -> Plane:
    """Colour 3×H×W: a gradient, clouds on a plane overhead, and a glow around the sun."""
    dx, dy, dz = rays
    up = np.maximum(dy, 0.03)
    drift = rng.uniform(0.0, 200.0, 2).astype(np.float32)
    cloud = sample(dx / up + drift[0], dz / up + drift[1], float(rng.uniform(10.0, 40.0)))
    cloud *= np.float32(0.4)
    cloud += np.float32(2.4 * light.cover - 1.3)
    np.clip(cloud, 0.0, 1.0, out=cloud)
    cloud *= np.clip(dy * 6.0, 0.0, 1.0)
    white = (0.35 * light.zenith + 0.65 * light.horizon) * np.float32(rng.uniform(0.75, 1.2))
    glow = np.maximum(dx * light.sun[0] + dy * light.sun[1] + dz * light.sun[2], 0.0)
    for _ in range(3):
        glow *= glow
    height, clear = np.clip(dy * 1.6, 0.0, 1.0), 1.0 - cloud
    color = np.empty((3, *dx.shape), np.float32)
    for k in range(3):
        color[k] = height * (light.zenith[k] - light.horizon[k])
        color[k] += light.horizon[k]
        color[k] *= clear
        color[k] += cloud * white[k]
        color[k] += glow * (0.4 * light.direct[k])
    return color


def _labels(street: Street, x: Plane, z: Plane) -> NDArray[np.uint8]:
    side = np.abs(x)
    beyond = np.where(x < 0, *(np.uint8(c.TREE if green else c.PAVEMENT) for green in street.grass))
    labels = np.where(side < street.kerb, np.uint8(c.PAVEMENT), beyond)
    road = (side < street.half) | ((z > street.crossing[0]) & (z < street.crossing[1]))
    labels[road] = c.ROAD
    return labels


def _marks(street: Street, x: Plane, z: Plane) -> NDArray[np.bool_]:
    side = np.abs(x)
    marks = np.zeros(x.shape, np.bool_)
    if street.dashes:
        marks |= (side < 0.08) & (z % 7.0 < 3.5)
    if street.edge_lines:
        marks |= np.abs(side - (street.half - 0.3)) < 0.07
    marks &= (z < street.crossing[0]) | (z > street.crossing[1])
    if street.zebra < LIMIT:
        marks |= (np.abs(z - street.zebra - 1.5) < 1.5) & (x % 1.1 < 0.55) & (side < street.half - 0.1)
    return marks


def _albedo(rng: np.random.Generator) -> Plane:
    """Albedo of each label; only road, pavement and grass are ever looked up."""
    table = np.zeros((11, 3), np.float32)
    table[c.ROAD] = rng.uniform(0.16, 0.5) * (1 + rng.normal(0, 0.03, 3))
    table[c.PAVEMENT] = rng.uniform(0.25, 0.62) * (1 + rng.normal(0, 0.07, 3))
    table[c.TREE] = np.array((0.28, 0.38, 0.14)) * rng.uniform(0.5, 1.2) * (1 + rng.normal(0, 0.15, 3))
    return table


def ground(
    rng: np.random.Generator,
    camera: Camera,
    rays: Rays,
    street: Street,
    light: Light,
    shadow: NDArray[np.uint8],
) -> tuple[Plane, NDArray[np.uint8], Plane]:
    """Colour 3×H×W, labels and depth H×W of the rows that ``rays`` and ``shadow`` hold."""
    dx, dy, dz = rays
    depth = np.minimum(np.float32(camera.height) / np.maximum(-dy, 1e-3), np.float32(LIMIT))
    z = depth * dz
    x = depth * dx + np.float32(camera.lateral) - np.float32(camera.bend) * z * z
    labels = _labels(street, x, z)
    albedo = _albedo(rng)
    fine, coarse = (sample(x, z, np.float32(rng.uniform(*scale))) for scale in ((20, 60), (2, 6)))
    is_road = labels == c.ROAD
    paint = _marks(street, x, z) & is_road & (coarse < rng.uniform(0.8, 2.5))
    white = rng.uniform(0.6, 0.9)
    slabs = (labels == c.PAVEMENT) & ((x % 0.8 < 0.05) | (z % 0.8 < 0.05)) & (depth < 9)
    kerb = (np.abs(np.abs(x) - street.half - 0.09) < 0.09) & ~is_road
    rough = np.float32(rng.uniform(0.03, 0.12)) * fine + np.float32(rng.uniform(0.02, 0.09)) * coarse
    factor = 1.0 + rough - 0.25 * slabs + np.float32(rng.uniform(-0.2, 0.5)) * kerb
    factor = np.maximum(factor, np.float32(0.2)) * _received(street, light, x, z, shadow)
    mirror = light.wet * np.clip(0.5 + 0.5 * coarse, 0.0, 1.0) * np.clip(1.0 + 2.0 * dy, 0.0, 1.0)
    factor *= 1.0 - mirror
    irradiance = light.on(np.array(((0.0, 1.0, 0.0),), np.float32))[0]
    color = np.empty((3, *x.shape), np.float32)
    for k in range(3):
        np.take(albedo[:, k] * irradiance[k], labels, out=color[k], mode="clip")
        color[k][paint] = white * irradiance[k]
        color[k] *= factor
        color[k] += mirror * light.horizon[k]
    return color, labels, depth


def _received(street: Street, light: Light, x: Plane, z: Plane, shadow: NDArray[np.uint8]) -> Plane:
    """Fraction of the light that reaches the ground past the objects and the row of houses by the sun."""
    strength = 0.35 + 0.4 * min(float(light.direct.mean()), 1.0)
    dark = shadow > 0
    if light.direct.mean() > 0.4:
        side = 1 if light.sun[0] > 0 else -1
        reach = 8.0 * abs(float(light.sun[0])) / float(light.sun[1])
        eaves = 1.0 + 0.25 * ((z * 0.09).astype(np.int32) % 3)
        dark = dark | (side * x > street.front(side) - reach * eaves)
    return np.float32(1.0) - np.float32(strength) * dark
