"""Pedestrians, and cyclists on their bicycles (rider and bicycle are one object, as in CamVid)."""

from __future__ import annotations

from functools import cache

import numpy as np

from edgeseg.datasets._streets import classes as c
from edgeseg.datasets._streets.camera import Points
from edgeseg.datasets._streets.canvas import Canvas, Part, Texture
from edgeseg.datasets._streets.light import Light
from edgeseg.datasets._streets.shapes import bar, box, cast, disc, ring, tint

SKIN = ((0.75, 0.55, 0.44), (0.5, 0.33, 0.23), (0.3, 0.2, 0.15), (0.82, 0.64, 0.54))
HAIR = ((0.1, 0.08, 0.06), (0.35, 0.22, 0.12), (0.6, 0.5, 0.35), (0.5, 0.5, 0.5))
CLOTHES = (
    (0.1, 0.1, 0.12), (0.15, 0.2, 0.4), (0.55, 0.1, 0.1), (0.75, 0.75, 0.72), (0.4, 0.4, 0.42),
    (0.2, 0.33, 0.2), (0.75, 0.6, 0.2), (0.45, 0.35, 0.26), (0.25, 0.45, 0.6), (0.55, 0.3, 0.45),
)  # fmt: skip
BICYCLES = ((0.08, 0.08, 0.09), (0.5, 0.08, 0.08), (0.15, 0.25, 0.5), (0.6, 0.6, 0.62))
Figure = list[tuple[int, Points]]  # (which of the figure's colours, outline)


def _draw(canvas: Canvas, label: int, figure: Figure, colors: list[tuple[float, float, float]], at: Points) -> None:
    """Draw ``figure`` at (x, z, scale, mirror)."""
    x, z, scale, mirror = at.tolist()
    instance = canvas.instance(label)
    texture = Texture(0.12, 40.0)
    parts = [canvas.part(Part(label, color, (x, 0.0, z), texture=texture, instance=instance)) for color in colors]
    for number, outline in figure:
        canvas.flat(parts[number], outline * (scale * mirror, scale), (x, z))


def pedestrian(canvas: Canvas, rng: np.random.Generator, light: Light, x: float, z: float) -> None:
    """A person standing or walking, 1.1 to 1.95 m tall."""
    tall = float(rng.uniform(1.5, 1.95) if rng.random() < 0.85 else rng.uniform(1.05, 1.4))
    stride, swing, broad = rng.uniform(0.02, 0.15), rng.uniform(0.02, 0.12), rng.uniform(0.085, 0.125)
    figure: Figure = [
        (2, bar((0.02, 0.5), (stride, 0.02), 0.085)),
        (2, bar((-0.02, 0.5), (-stride, 0.02), 0.085)),
        (1, bar((broad, 0.79), (broad + swing, 0.47), 0.055)),
        (1, bar((-broad, 0.79), (-broad - 0.4 * swing, 0.47), 0.055)),
        (1, np.array(((-0.8 * broad, 0.45), (0.8 * broad, 0.45), (broad, 0.82), (-broad, 0.82)))),
        (0, disc(0.0, 0.92, 0.065, 9)),
        (3, box(-0.06, 0.93, 0.06, 0.985)),
    ]
    if rng.random() < 0.25:  # coat or skirt
        figure.insert(
            4,
            (
                1,
                np.array(((-1.2 * broad, 0.27), (1.2 * broad, 0.27), (0.8 * broad, 0.5), (-0.8 * broad, 0.5))),
            ),
        )
    if rng.random() < 0.35:  # bag
        figure.append((4, box(0.5 * broad, 0.45, 1.6 * broad, 0.68)))
    cast(canvas, light, x, z, 0.22, tall)
    colors = [tint(rng, p) for p in (SKIN, CLOTHES, CLOTHES, HAIR, CLOTHES)]
    _draw(canvas, c.PEDESTRIAN, figure, colors, np.array((x, z, tall, rng.choice((-1.0, 1.0)))))


@cache
def _across() -> Figure:
    """Seen from the side, riding to the right."""
    return [
        (4, ring(-0.52, 0.34, 0.34, 0.06)),
        (4, ring(0.52, 0.34, 0.34, 0.06)),
        (3, bar((-0.52, 0.34), (-0.15, 0.85), 0.06)),
        (3, bar((-0.52, 0.34), (0.0, 0.32), 0.05)),
        (3, bar((0.0, 0.32), (0.4, 0.82), 0.06)),
        (3, bar((-0.12, 0.75), (0.4, 0.78), 0.06)),
        (3, bar((0.52, 0.34), (0.37, 0.98), 0.06)),
        (2, bar((-0.15, 0.95), (0.18, 0.66), 0.16)),
        (2, bar((0.18, 0.66), (0.05, 0.22), 0.12)),
        (1, bar((-0.15, 0.9), (0.1, 1.42), 0.27)),
        (1, bar((0.1, 1.36), (0.38, 1.02), 0.1)),
        (0, disc(0.2, 1.58, 0.12, 9)),
    ]


@cache
def _along() -> Figure:
    """Seen from behind or ahead."""
    return [
        (4, box(-0.04, 0.0, 0.04, 0.68)),
        (3, bar((-0.3, 1.0), (0.3, 1.0), 0.06)),
        (2, bar((-0.12, 0.95), (-0.14, 0.3), 0.14)),
        (2, bar((0.12, 0.95), (0.14, 0.42), 0.14)),
        (1, bar((-0.2, 1.38), (-0.3, 1.0), 0.1)),
        (1, bar((0.2, 1.38), (0.3, 1.0), 0.1)),
        (1, np.array(((-0.17, 0.88), (0.17, 0.88), (0.22, 1.42), (-0.22, 1.42)))),
        (0, disc(0.0, 1.57, 0.12, 9)),
    ]


def cyclist(canvas: Canvas, rng: np.random.Generator, light: Light, x: float, z: float) -> None:
    """A cyclist riding across or along the street."""
    cast(canvas, light, x, z, 0.35, 1.6)
    figure = list(_across() if rng.random() < 0.55 else _along())
    if rng.random() < 0.6:  # helmet
        figure.append((5, figure[-1][1] * (1.0, 0.5) + (0.0, 0.83)))
    colors = [tint(rng, p) for p in (SKIN, CLOTHES, CLOTHES, BICYCLES, BICYCLES[:1], CLOTHES)]
    stretch = rng.uniform(0.7, 1.0)  # turned a little away from square on
    scale = rng.uniform(0.92, 1.1)
    _draw(canvas, c.BICYCLIST, figure, colors, np.array((x, z, scale, rng.choice((-1.0, 1.0)) * stretch)))
