"""Rows of buildings along the street, and what closes the view at its end."""

from __future__ import annotations

import numpy as np

from edgeseg.datasets._streets import classes as c
from edgeseg.datasets._streets.canvas import Canvas, Part, Texture
from edgeseg.datasets._streets.shapes import tint, wall
from edgeseg.datasets._streets.street import FAR, Street

WALLS = (
    (0.62, 0.55, 0.43), (0.5, 0.27, 0.2), (0.5, 0.5, 0.5), (0.82, 0.8, 0.75),
    (0.42, 0.46, 0.52), (0.3, 0.28, 0.27), (0.68, 0.5, 0.36), (0.35, 0.42, 0.33),
)  # fmt: skip
ROOFS = ((0.42, 0.2, 0.15), (0.25, 0.25, 0.28), (0.35, 0.28, 0.22))
GLASS = ((0.1, 0.12, 0.15), (0.25, 0.3, 0.36), (0.55, 0.58, 0.6), (0.75, 0.62, 0.35))


def _facade(rng: np.random.Generator, storey: float) -> Texture:
    width = float(rng.uniform(1.2, 3.8))
    return Texture(
        amplitude=float(rng.uniform(0.02, 0.13)),
        per_metre=float(rng.uniform(5, 30)),
        cell=(width, storey),
        pane=(float(rng.uniform(0.3, 0.85)), float(rng.uniform(0.35, 0.7))),
        behind=tint(rng, GLASS),
    )


def building(canvas: Canvas, rng: np.random.Generator, street: Street, side: int, z0: float, z1: float) -> None:
    """One building from z0 to z1: front, near end, shop floor and, on lower ones, a pitched roof."""
    bend, x = canvas.camera.bend, side * street.front(side)
    storey, storeys = float(rng.uniform(2.7, 3.6)), int(rng.integers(1, 7))
    top, deep = storey * storeys + float(rng.uniform(0.2, 1.2)), x + side * float(rng.uniform(6, 14))
    color, texture = tint(rng, WALLS), _facade(rng, storey)
    lean = bend * (z1 * z1 - z0 * z0)
    normal = np.array((-side * (z1 - z0), 0.0, side * lean)) / np.hypot(z1 - z0, lean)
    facing, near = (float(normal[0]), 0.0, float(normal[2])), (x, 0.0, z0)
    if rng.random() < 0.5 and storeys < 4:
        ridge, rise = (x + deep) / 2, top + float(rng.uniform(1.5, 3.5))
        slope = np.array(((x, top, z0), (x, top, z1), (ridge, rise, z1), (ridge, rise, z0)))
        tilt = (0.6 * facing[0], 0.8, 0.6 * facing[2])
        canvas.add(Part(c.BUILDING, tint(rng, ROOFS), (x, top, z0), tilt), slope)
        gable = np.array(((x, top, z0), (deep, top, z0), (ridge, rise, z0)))
        canvas.add(Part(c.BUILDING, color, near), gable)
    canvas.add(Part(c.BUILDING, color, near, texture=texture), wall(x, z0, deep, z0, 0, top))
    canvas.add(Part(c.BUILDING, color, near, facing, texture), wall(x, z0, x, z1, 0, top))
    if rng.random() < 0.4:
        shop = Texture(0.08, 12.0, (float(rng.uniform(2, 5)), 2.6), (0.85, 0.9), tint(rng, GLASS))
        low = Part(c.BUILDING, tint(rng, WALLS, 0.5), near, facing, shop)
        canvas.add(low, wall(x, z0, x, z1, 0, 3.0))


def row(rng: np.random.Generator, street: Street, side: int, density: float) -> list[tuple[float, float]]:
    """The z ranges of the buildings on one side; the rest of the side is gaps."""
    spans, z = [], 1.0
    while z < 130.0:
        length = float(rng.uniform(6.0, 26.0))
        end = z + length
        meets = z < street.crossing[1] + 1 and end > street.crossing[0] - 1
        if not meets and rng.random() < density:
            spans.append((z, end))
        z = max(end, street.crossing[1] + 1) if meets else end + float(rng.choice((0.0, 0.0, 2.0, 6.0)))
    return spans


def backdrop(canvas: Canvas, rng: np.random.Generator) -> None:
    """Far blocks and clumps of trees above the horizon."""
    for x in np.linspace(-190.0, 190.0, 16) + rng.uniform(-10, 10, 16):
        width, z = float(rng.uniform(8, 26)), FAR
        if rng.random() < 0.5:
            texture = Texture(0.05, 2.0, (5.0, 4.0), (0.5, 0.5), tint(rng, GLASS))
            part = Part(c.BUILDING, tint(rng, WALLS), (0.0, 0.0, z), texture=texture)
            canvas.add(part, wall(x - width / 2, z, x + width / 2, z, -2, float(rng.uniform(4, 30))))
            continue
        angle = np.linspace(0, np.pi, 9)
        hump = np.stack((x + width * np.cos(angle), rng.uniform(4, 13) * np.sin(angle) ** 0.6 - 1, 0 * angle + z), 1)
        hump[1:-1, 1] += rng.uniform(-1, 1, 7)
        color = tint(rng, ((0.2, 0.28, 0.14), (0.28, 0.3, 0.16)))
        canvas.add(Part(c.TREE, color, (0.0, 0.0, z), texture=Texture(0.2, 3.0)), hump)


def closing(canvas: Canvas, rng: np.random.Generator, z: float) -> None:
    """A building across the street's end."""
    storeys = int(rng.integers(2, 7))
    texture = _facade(rng, 3.2)
    width = float(rng.uniform(15, 50))
    part = Part(c.BUILDING, tint(rng, WALLS), (0.0, 0.0, z), texture=texture)
    x = float(rng.uniform(-8, 8))
    canvas.add(part, wall(x - width / 2, z, x + width / 2, z, 0, 3.2 * storeys + 0.8))
