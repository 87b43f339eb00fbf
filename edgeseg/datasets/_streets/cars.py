"""Cars, vans and lorries: a side profile drawn out to the car's width, seen from any direction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeseg.datasets._streets import classes as c
from edgeseg.datasets._streets.camera import Points
from edgeseg.datasets._streets.canvas import PLAIN, Canvas, Color, Part, Texture
from edgeseg.datasets._streets.light import Light
from edgeseg.datasets._streets.shapes import disc, tint

PAINT = (
    (0.75, 0.75, 0.76), (0.9, 0.9, 0.9), (0.08, 0.08, 0.09), (0.3, 0.31, 0.33), (0.5, 0.06, 0.06),
    (0.1, 0.17, 0.4), (0.16, 0.26, 0.2), (0.7, 0.6, 0.2), (0.5, 0.45, 0.38),
)  # fmt: skip
GLASS: Color = (0.14, 0.17, 0.2)
RUBBER: Color = (0.06, 0.06, 0.065)
SHEET, REFLECTION = Texture(0.05, 8.0), Texture(0.25, 3.0)


def _inset(u0: float, u1: float, v0: float, v1: float) -> Points:
    """Weights of a quadrilateral's corners that cut the rectangle u0..u1 × v0..v1 out of it."""
    corners = ((u0, v0), (u1, v0), (u1, v1), (u0, v1))
    return np.array([((1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v) for u, v in corners])


LAMPS = (_inset(0.02, 0.22, 0.45, 0.9), _inset(0.78, 0.98, 0.45, 0.9))


@dataclass(frozen=True)
class Body:
    """Profile (ahead, up), metres, anticlockwise from the rear bumper's foot; ``panes`` names the edges
    that are glass; ``windows`` are the side windows; ``width`` of the car."""

    profile: tuple[tuple[float, float], ...]
    panes: tuple[int, ...]
    windows: tuple[tuple[tuple[float, float], ...], ...]
    width: float
    axles: tuple[float, float]
    wheel: float = 0.33


HATCH = Body(
    ((-1.9, 0.3), (1.95, 0.3), (2.0, 0.7), (1.2, 0.92),
     (0.45, 1.42), (-1.3, 1.47), (-1.85, 0.95), (-1.95, 0.6)),
    (3, 5),
    (
        ((-1.35, 0.95), (-0.2, 0.95), (-0.2, 1.38), (-1.2, 1.38)),
        ((-0.1, 0.95), (0.95, 0.95), (0.4, 1.36), (-0.1, 1.38)),
    ),
    1.72,
    (-1.2, 1.3),
)  # fmt: skip
SALOON = Body(
    ((-2.3, 0.3), (2.2, 0.3), (2.25, 0.68), (1.2, 0.88),
     (0.4, 1.38), (-0.9, 1.4), (-1.65, 0.98), (-2.3, 0.92)),
    (3, 5),
    (
        ((-1.2, 0.95), (-0.2, 0.95), (-0.2, 1.33), (-0.85, 1.33)),
        ((-0.1, 0.95), (0.95, 0.95), (0.35, 1.32), (-0.1, 1.33)),
    ),
    1.8,
    (-1.4, 1.4),
)  # fmt: skip
VAN = Body(
    ((-2.5, 0.35), (2.4, 0.35), (2.45, 0.9), (1.9, 1.15), (1.35, 2.0), (-2.4, 2.1), (-2.5, 1.2)),
    (3,),
    (((0.4, 1.15), (1.55, 1.15), (1.15, 1.8), (0.4, 1.8)),),
    1.95,
    (-1.6, 1.6),
)  # fmt: skip
LORRY = Body(
    ((-3.4, 0.5), (3.3, 0.5), (3.35, 1.3), (3.2, 2.4), (2.0, 2.6), (1.9, 3.0), (-3.4, 3.0)),
    (2,),
    (((2.1, 1.4), (3.05, 1.4), (2.95, 2.2), (2.1, 2.2)),),
    2.3,
    (-2.2, 2.4),
    0.45,
)  # fmt: skip
BODIES = (HATCH, HATCH, SALOON, SALOON, VAN, LORRY)


class _Placed:
    """A body set down on the street: car axes (ahead, up, left) → street axes, by the rows of ``axes``."""

    def __init__(self, canvas: Canvas, x: float, z: float, yaw: float) -> None:
        sin, cos = math.sin(yaw), math.cos(yaw)
        self.axes = np.array(((sin, 0.0, cos), (0.0, 1.0, 0.0), (-cos, 0.0, sin)))
        self.place = np.array((x, 0.0, z))
        self.instance = canvas.instance(c.CAR)

    def side(self, outline: Points, left: float) -> Points:
        """A flat outline N×2 (ahead, up) at ``left`` of the middle."""
        placed: Points = outline @ self.axes[:2] + (self.axes[2] * left + self.place)
        return placed

    def part(self, color: Color, anchor: Points, normal: Points, texture: Texture = PLAIN) -> Part:
        """A part of this car on the plane through ``anchor``."""
        (ax, ay, az), (nx, ny, nz) = anchor.tolist(), normal.tolist()
        return Part(c.CAR, color, (ax, ay, az), (nx, ny, nz), texture, self.instance)


def car(canvas: Canvas, rng: np.random.Generator, light: Light, x: float, z: float, yaw: float) -> None:
    """A vehicle centred at (x, z), heading ``yaw`` radians from straight ahead towards the right."""
    body = BODIES[int(rng.integers(len(BODIES)))]
    placed = _Placed(canvas, x, z, yaw)
    reach, half = body.profile[1][0] + 0.1, body.width / 2 + 0.1
    sole = np.array(((-reach, 0.0), (reach, 0.0)))
    foot = np.concatenate((placed.side(sole, half), placed.side(sole[::-1], -half)))[:, ::2]
    canvas.shadow(foot)
    if light.direct.mean() > 0.4:
        away = np.clip(light.sun[[0, 2]] / light.sun[1], -2.5, 2.5) * (0.6 * body.profile[4][1])
        canvas.shadow(foot - away)
    paint = tint(rng, PAINT)
    _hull(canvas, placed, body, paint)
    eye = canvas.camera.relative(placed.place[None])[0]
    for left in (1.0, -1.0):
        if left * (placed.axes[2] @ eye) < -body.width / 2:
            _flank(canvas, placed, body, paint, left)


def _hull(canvas: Canvas, placed: _Placed, body: Body, paint: Color) -> None:
    """The visible ones of the faces along the profile, farthest first, with lamps on front and rear."""
    outline, half = np.array(body.profile), body.width / 2
    right, left = placed.side(outline, -half), placed.side(outline, half)
    quads = np.stack((left, right, np.roll(right, -1, 0), np.roll(left, -1, 0)), 1)
    edges = np.roll(outline, -1, 0) - outline
    normals = (edges / np.hypot(*edges.T)[:, None])[:, ::-1] * (1.0, -1.0) @ placed.axes[:2]
    middles = quads.mean(1)
    seen = canvas.camera.relative(middles)
    visible = np.flatnonzero((seen * normals).sum(1) < 0)
    for i in visible[np.argsort(-(seen[visible] ** 2).sum(1), kind="stable")].tolist():
        quad, normal = quads[i], normals[i]
        canvas.add(placed.part(paint, quad[0], normal, SHEET), quad)
        if i in body.panes:
            canvas.add(placed.part(GLASS, quad[0], normal, REFLECTION), 0.14 * middles[i] + 0.86 * quad)
        elif abs(normal[1]) < 0.5 and quad[0, 1] < 1.4:
            color: Color = (0.7, 0.7, 0.65) if i < 4 else (0.55, 0.05, 0.04)
            lamps = canvas.part(placed.part(color, quad[0], normal))
            canvas.again(lamps, LAMPS[0] @ quad)
            canvas.again(lamps, LAMPS[1] @ quad)


def _flank(canvas: Canvas, placed: _Placed, body: Body, paint: Color, left: float) -> None:
    """One side: sheet metal, windows, wheels."""
    normal, offset = left * placed.axes[2], left * body.width / 2
    sheet = placed.side(np.array(body.profile), offset)
    canvas.add(placed.part(paint, sheet[0], normal, SHEET), sheet)
    glass = canvas.part(placed.part(GLASS, sheet[0], normal, REFLECTION))
    for window in body.windows:
        canvas.again(glass, placed.side(np.array(window), offset))
    tyre = canvas.part(placed.part(RUBBER, sheet[0], normal))
    rim = canvas.part(placed.part((0.5, 0.5, 0.52), sheet[0], normal))
    for axle in body.axles:
        canvas.again(tyre, placed.side(disc(axle, body.wheel, body.wheel, 12), offset))
        canvas.again(rim, placed.side(disc(axle, body.wheel, 0.55 * body.wheel, 8), offset))
