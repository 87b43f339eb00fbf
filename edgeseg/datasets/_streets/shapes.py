"""Flat outlines (x, y in metres) and the shadows that standing things cast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from edgeseg.datasets._streets.camera import Points
from edgeseg.datasets._streets.canvas import Canvas, Color
from edgeseg.datasets._streets.light import Light


@cache
def _unit(corners: int) -> Points:
    angle = np.arange(corners) * (2 * np.pi / corners) + np.pi / corners
    return np.stack((np.sin(angle), np.cos(angle)), 1)


def disc(x: float, y: float, radius: float, corners: int = 10) -> Points:
    """A regular polygon around (x, y)."""
    return _unit(corners) * radius + (x, y)


def ring(x: float, y: float, radius: float, width: float) -> Points:
    """A ring as one outline: round outside, then back inside; even-odd filling leaves the hole open."""
    outer, inner = disc(x, y, radius, 14), disc(x, y, radius - width, 14)
    return np.concatenate((outer, outer[:1], inner[:1], inner[::-1]))


def box(x0: float, y0: float, x1: float, y1: float) -> Points:
    """An upright rectangle."""
    return np.array(((x0, y0), (x1, y0), (x1, y1), (x0, y1)))


def bar(start: tuple[float, float], end: tuple[float, float], width: float) -> Points:
    """A straight bar of constant width."""
    (ax, ay), (bx, by) = start, end
    half = width / 2 / max(math.hypot(bx - ax, by - ay), 1e-6)
    cx, cy = (ay - by) * half, (bx - ax) * half
    return np.array(((ax - cx, ay - cy), (ax + cx, ay + cy), (bx + cx, by + cy), (bx - cx, by - cy)))


def wall(x0: float, z0: float, x1: float, z1: float, bottom: float, top: float) -> Points:
    """An upright quadrilateral over the ground line (x0, z0)-(x1, z1), in street coordinates."""
    return np.array(((x0, bottom, z0), (x1, bottom, z1), (x1, top, z1), (x0, top, z0)))


def cast(canvas: Canvas, light: Light, x: float, z: float, radius: float, height: float) -> None:
    """Shadow of an upright thing: a contact patch, and with the sun out a strip away from it."""
    patch = disc(x, z, 1.15 * radius, 8)
    canvas.shadow(patch)
    if light.direct.mean() < 0.4:
        return
    flat = light.sun[[0, 2]] / max(float(np.hypot(light.sun[0], light.sun[2])), 1e-6)
    length = min(height * float(np.hypot(light.sun[0], light.sun[2]) / light.sun[1]), 9.0)
    across = np.array((-flat[1], flat[0])) * radius
    foot, tip = np.array((x, z)), np.array((x, z)) - flat * length
    canvas.shadow(np.stack((foot - across, foot + across, tip + 0.7 * across, tip - 0.7 * across)))


def tint(rng: np.random.Generator, palette: Sequence[Color], spread: float = 0.12) -> Color:
    """A colour of ``palette``, lighter or darker and slightly off hue."""
    pick, lightness, *hue = rng.random(5).tolist()
    base = palette[int(pick * len(palette))]
    r, g, b = (
        min(max(value * (0.75 + 0.45 * lightness) + spread * (shift - 0.5), 0.02), 0.97)
        for value, shift in zip(base, hue, strict=True)
    )
    return (r, g, b)
