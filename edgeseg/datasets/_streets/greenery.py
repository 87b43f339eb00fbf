"""Trees, bushes and hedges (CamVid files all vegetation under Tree)."""

from __future__ import annotations

import numpy as np

from edgeseg.datasets._streets import classes as c
from edgeseg.datasets._streets.canvas import Canvas, Part, Texture
from edgeseg.datasets._streets.light import Light
from edgeseg.datasets._streets.shapes import box, cast, disc, tint, wall

LEAVES = ((0.2, 0.32, 0.1), (0.3, 0.38, 0.16), (0.14, 0.24, 0.12), (0.44, 0.32, 0.12), (0.35, 0.36, 0.28))
BARK = ((0.26, 0.2, 0.15), (0.35, 0.32, 0.28), (0.18, 0.15, 0.13))


def _crown(canvas: Canvas, rng: np.random.Generator, x: float, z: float, middle: float, size: float) -> None:
    base = np.array(tint(rng, LEAVES))
    texture = Texture(float(rng.uniform(0.15, 0.4)), float(rng.uniform(12, 45)))
    dark, light = (
        canvas.part(Part(c.TREE, tuple((base * k).tolist()), (x, 0.0, z), normal, texture))
        for k, normal in ((0.7, (0.0, 0.0, -1.0)), (1.1, (0.0, 0.6, -0.8)))
    )
    n = int(rng.integers(9, 16))
    angle, out = rng.uniform(0, 2 * np.pi, n), np.sqrt(rng.random(n)) * 0.75
    radius = rng.uniform(0.22, 0.48, n) * size
    ragged = rng.uniform(0.75, 1.2, (n, 9, 1))
    unit = disc(0.0, 0.0, 1.0, 9)
    blobs = ragged * radius[:, None, None] * unit
    blobs[:, :, 0] += (out * np.cos(angle) * size)[:, None]
    blobs[:, :, 1] += (out * np.sin(angle) * size * rng.uniform(0.8, 1.3))[:, None] + middle
    for i, blob in enumerate(blobs):
        # Sunlit blobs lie on top, so they are drawn last.
        canvas.flat(light if i > n // 2 else dark, blob, (x, z))


def tree(canvas: Canvas, rng: np.random.Generator, light: Light, x: float, z: float) -> None:
    """A trunk and a ragged crown of two tones."""
    trunk, size = float(rng.uniform(1.6, 3.6)), float(rng.uniform(1.0, 3.2))
    thick = float(rng.uniform(0.06, 0.2)) * (0.6 + 0.3 * size)
    cast(canvas, light, x, z, 0.5 * size, trunk + size)
    bark = canvas.part(Part(c.TREE, tint(rng, BARK), (x, 0.0, z), texture=Texture(0.15, 40.0)))
    canvas.flat(bark, box(-thick, 0.0, thick, trunk + 0.5 * size), (x, z))
    _crown(canvas, rng, x, z, trunk + 0.7 * size, size)


def bush(canvas: Canvas, rng: np.random.Generator, light: Light, x: float, z: float) -> None:
    """A crown on the ground."""
    size = float(rng.uniform(0.4, 1.1))
    cast(canvas, light, x, z, size, size)
    _crown(canvas, rng, x, z, 0.5 * size, size)


def hedge(canvas: Canvas, rng: np.random.Generator, x: float, z0: float, z1: float) -> None:
    """A clipped hedge along the street."""
    top, leaf = float(rng.uniform(0.7, 2.0)), tint(rng, LEAVES)
    texture = Texture(float(rng.uniform(0.12, 0.3)), float(rng.uniform(15, 50)))
    side = 1.0 if x > 0 else -1.0
    canvas.add(Part(c.TREE, leaf, (x, 0, z0), texture=texture), wall(x, z0, x + side * 0.8, z0, 0, top))
    canvas.add(Part(c.TREE, leaf, (x, 0, z0), (-side, 0.0, 0.0), texture), wall(x, z0, x, z1, 0, top))
