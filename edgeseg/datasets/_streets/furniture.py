"""Street furniture: lamps, posts, signs, traffic lights and fences."""

from __future__ import annotations

import numpy as np

from edgeseg.datasets._streets import classes as c
from edgeseg.datasets._streets.camera import Points
from edgeseg.datasets._streets.canvas import Canvas, Color, Part, Texture
from edgeseg.datasets._streets.light import Light
from edgeseg.datasets._streets.shapes import bar, box, cast, disc, tint, wall

METAL = ((0.45, 0.46, 0.47), (0.25, 0.26, 0.27), (0.62, 0.62, 0.6), (0.2, 0.27, 0.23), (0.36, 0.27, 0.2))
SIGNS = (
    (0.75, 0.1, 0.1), (0.1, 0.25, 0.65), (0.9, 0.75, 0.1), (0.1, 0.42, 0.25),
    (0.85, 0.85, 0.85), (0.4, 0.4, 0.42),
)  # fmt: skip
PLATES = ((0.9, 0.9, 0.88), (0.9, 0.9, 0.88), (0.15, 0.15, 0.17), (0.75, 0.1, 0.1), (0.1, 0.25, 0.65))
FENCES = ((0.4, 0.28, 0.18), (0.5, 0.5, 0.5), (0.18, 0.24, 0.2), (0.82, 0.82, 0.8), (0.3, 0.3, 0.32))


def _post(canvas: Canvas, rng: np.random.Generator, light: Light, x: float, z: float, size: tuple[float, float]) -> int:
    width, top = size
    number = canvas.part(Part(c.POLE, tint(rng, METAL), (x, 0.0, z), texture=Texture(0.06, 30.0)))
    canvas.flat(number, box(-width / 2, 0.0, width / 2, top), (x, z))
    cast(canvas, light, x, z, width, top)
    return number


def lamp(canvas: Canvas, rng: np.random.Generator, light: Light, x: float, z: float) -> None:
    """A street lamp whose arm reaches over the road; some are bare posts or bollards."""
    kind = rng.random()
    if kind < 0.2:
        _post(canvas, rng, light, x, z, (float(rng.uniform(0.12, 0.25)), float(rng.uniform(0.7, 1.1))))
        return
    top = float(rng.uniform(3.5, 8.5))
    number = _post(canvas, rng, light, x, z, (float(rng.uniform(0.1, 0.26)), top))
    if kind < 0.75:
        reach = -np.sign(x) * float(rng.uniform(0.5, 2.2))
        canvas.flat(number, bar((0.0, top), (reach, top + 0.3), 0.1), (x, z))
        canvas.flat(number, bar((reach, top + 0.27), (1.35 * reach, top + 0.27), 0.2), (x, z))


def _plate(rng: np.random.Generator) -> tuple[Points, float]:
    size = float(rng.uniform(0.3, 0.5))
    kind = int(rng.integers(5))
    if kind == 4:
        wide = float(rng.uniform(0.4, 1.1))
        return box(-wide, -size, wide, size), size
    return disc(0.0, 0.0, size, (12, 3, 4, 8)[kind]), size


def sign(canvas: Canvas, rng: np.random.Generator, light: Light, x: float, z: float) -> None:
    """One or two plates on a post."""
    top = float(rng.uniform(2.0, 3.2))
    _post(canvas, rng, light, x, z, (float(rng.uniform(0.06, 0.11)), top))
    instance = canvas.instance(c.SIGN)
    for k in range(1 if rng.random() < 0.75 else 2):
        outline, size = _plate(rng)
        at = np.array((0.0, top - k * 0.85))
        rim = canvas.part(Part(c.SIGN, tint(rng, SIGNS), (x, 0.0, z), instance=instance))
        face = canvas.part(Part(c.SIGN, tint(rng, PLATES), (x, 0.0, z), instance=instance))
        canvas.flat(rim, outline + at, (x, z))
        canvas.flat(face, 0.7 * outline + at, (x, z))
        if rng.random() < 0.5:
            canvas.flat(rim, box(-0.1, -0.5 * size, 0.1, 0.3 * size) + at, (x, z))


def traffic_light(canvas: Canvas, rng: np.random.Generator, light: Light, x: float, z: float) -> None:
    """A box of three lamps, one of them lit."""
    top = float(rng.uniform(2.6, 3.6))
    _post(canvas, rng, light, x, z, (0.13, top - 0.5))
    instance = canvas.instance(c.SIGN)
    body = canvas.part(Part(c.SIGN, tint(rng, ((0.08, 0.08, 0.08), (0.5, 0.45, 0.1))), (x, 0, z), instance=instance))
    canvas.flat(body, box(-0.2, top - 1.0, 0.2, top), (x, z))
    lit = int(rng.integers(3))
    lamps: tuple[Color, ...] = ((1.6, 0.15, 0.1), (1.6, 0.9, 0.1), (0.1, 1.5, 0.6))
    for k, color in enumerate(lamps):
        shown = color if k == lit else (0.12, 0.12, 0.12)
        number = canvas.part(Part(c.SIGN, shown, (x, 0.0, z), instance=instance))
        canvas.flat(number, disc(0.0, top - 0.2 - 0.3 * k, 0.12, 8), (x, z))


def fence(canvas: Canvas, rng: np.random.Generator, x: float, z0: float, z1: float) -> None:
    """Boards, pickets or mesh along the street; gaps between pickets show dark but belong to the fence."""
    side = 1.0 if x > 0 else -1.0
    gap = float(rng.uniform(0.2, 0.6)) if rng.random() < 0.65 else -1.0
    texture = Texture(
        amplitude=float(rng.uniform(0.04, 0.15)),
        per_metre=float(rng.uniform(10, 40)),
        cell=(float(rng.uniform(0.15, 0.6)), float(rng.uniform(0.5, 1.2))),
        pane=(gap, float(rng.uniform(0.7, 1.0))),
        behind=tint(rng, ((0.2, 0.22, 0.18), (0.4, 0.4, 0.38), (0.25, 0.32, 0.16))),
    )
    part = Part(c.FENCE, tint(rng, FENCES), (x, 0.0, z0), (-side, 0.0, 0.0), texture)
    canvas.add(part, wall(x, z0, x, z1, 0.05, float(rng.uniform(0.8, 2.0))))
