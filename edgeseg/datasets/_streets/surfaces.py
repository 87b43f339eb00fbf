"""Colour and depth of everything drawn, looked up per pixel from the map of parts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeseg.datasets._streets.background import LIMIT, Rays
from edgeseg.datasets._streets.camera import Camera
from edgeseg.datasets._streets.canvas import Part
from edgeseg.datasets._streets.light import Light
from edgeseg.datasets._streets.noise import Plane, sample


def shade(
    numbers: NDArray[np.int32], parts: list[Part], camera: Camera, rays: Rays, light: Light
) -> tuple[Plane, Plane]:
    """Colours 3×N and depths N of the pixels with part ``numbers`` N (from 1) and rays N each."""
    index = numbers - 1
    dx, dy, dz = rays
    normals = np.array([p.normal for p in parts], np.float32)
    anchors = camera.relative(np.array([p.anchor for p in parts])).astype(np.float32)
    nx, ny, nz = (np.take(normals[:, k], index) for k in range(3))
    facing = nx * dx + ny * dy + nz * dz
    # A grazing ray would run to infinity or behind the camera.
    facing[np.abs(facing) < 1e-3] = 1e-3
    depth = np.clip(np.take((normals * anchors).sum(1), index) / facing, 0.0, LIMIT)
    u, v = depth * (nz * dx - nx * dz), depth * dy + np.float32(camera.height)
    received = light.on(normals)
    outside = np.array([p.color for p in parts], np.float32) * received
    color = np.stack([np.take(outside[:, k], index) for k in range(3)])
    textures = [p.texture for p in parts]
    amplitude, per_metre = (
        np.array([getattr(t, name) for t in textures], np.float32) for name in ("amplitude", "per_metre")
    )
    grain = np.take(amplitude, index) * sample(u, v, np.take(per_metre, index))
    color *= np.maximum(1.0 + grain, np.float32(0.15))
    _panes(color, index, u, v, parts, received)
    return color, depth


def _panes(color: Plane, index: NDArray[np.int32], u: Plane, v: Plane, parts: list[Part], received: Plane) -> None:
    """Overwrite ``color`` where a part's grid shows what is behind."""
    paned = np.array([p.texture.pane[0] > 0 for p in parts])
    where = np.flatnonzero(paned[index])
    if not len(where):
        return
    index, u, v = index[where], u[where], v[where]
    grid = np.array([(*p.texture.cell, *p.texture.pane) for p in parts], np.float32)
    across, up = u / np.take(grid[:, 0], index), v / np.take(grid[:, 1], index)
    column, storey = np.floor(across), np.floor(up)
    # Panes leave a sill of a fifth of the cell below them.
    inside = (across - column < np.take(grid[:, 2], index)) & (
        np.abs(up - storey - 0.55) < 0.5 * np.take(grid[:, 3], index)
    )
    varied = 0.7 + 0.09 * ((column * 7 + storey * 5).astype(np.int32) & 7)
    behind = np.array([p.texture.behind for p in parts], np.float32) * (0.4 + 0.6 * received)
    where, index, varied = where[inside], index[inside], varied[inside]
    for k in range(3):
        color[k, where] = behind[index, k] * varied
