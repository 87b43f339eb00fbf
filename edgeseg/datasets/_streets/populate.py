"""What stands where: things to draw, each with the depth (z, metres) that orders it far to near."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from edgeseg.datasets._streets import buildings, cars, furniture, greenery, people
from edgeseg.datasets._streets.canvas import Canvas
from edgeseg.datasets._streets.light import Light
from edgeseg.datasets._streets.street import Street

Thing = tuple[float, Callable[[], None]]


def _depth(rng: np.random.Generator, near: float, far: float) -> float:
    """Log-uniform: about as many things near as far once they are seen in perspective."""
    return float(np.exp(rng.uniform(np.log(near), np.log(far))))


def _roadside(rng: np.random.Generator, street: Street, near: float, far: float) -> tuple[float, float] | None:
    """A place (x, z) on a pavement near the kerb, or None where the road across is."""
    z = _depth(rng, near, far)
    x = float(rng.choice((-1.0, 1.0))) * (street.half + float(rng.uniform(0.25, 0.8)))
    return None if street.in_crossing(z) else (x, z)


def things(canvas: Canvas, rng: np.random.Generator, street: Street, light: Light) -> Iterator[Thing]:
    """Everything that stands on the street; drawing takes ``rng`` in drawing order."""
    for side in (-1, 1):
        yield from _frontage(canvas, rng, street, light, side)
    if rng.random() < 0.35:
        z = float(rng.uniform(45.0, 140.0))
        yield z, partial(buildings.closing, canvas, rng, z)
    yield from _furniture(canvas, rng, street, light)
    yield from _traffic(canvas, rng, street, light)
    yield from _walkers(canvas, rng, street, light)


def _frontage(canvas: Canvas, rng: np.random.Generator, street: Street, light: Light, side: int) -> Iterator[Thing]:
    """Buildings, and fences, hedges and trees before and between them."""
    density = float(rng.choice((0.1, 0.55, 0.95), p=(0.22, 0.33, 0.45)))
    for z0, z1 in buildings.row(rng, street, side, density):
        yield z1, partial(buildings.building, canvas, rng, street, side, z0, z1)
    lined = street.setback[(side + 1) // 2] > 0 or density < 0.9
    z = float(rng.uniform(1.0, 8.0))
    while lined and z < 70.0:
        end = z + float(rng.uniform(4.0, 18.0))
        x, kind = side * (street.kerb + 0.1), rng.random()
        if not (street.in_crossing(z) or street.in_crossing(end) or z < street.crossing[0] < end):
            if kind < 0.45:
                yield end, partial(furniture.fence, canvas, rng, x, z, end)
            elif kind < 0.6:
                yield end, partial(greenery.hedge, canvas, rng, x, z, end)
        z = end + float(rng.uniform(0.0, 5.0))
    for _ in range(int(rng.integers(0, 3 if density > 0.9 else 9))):
        z = _depth(rng, 5.0, 110.0)
        x = side * (street.kerb + float(rng.uniform(0.6, 12.0)))
        if density > 0.9 or street.in_crossing(z):  # beside houses trees stand at the kerb
            x = side * (street.half + 0.7)
        if not street.in_crossing(z):
            yield (
                z,
                partial(greenery.tree if rng.random() < 0.75 else greenery.bush, canvas, rng, light, x, z),
            )


def _furniture(canvas: Canvas, rng: np.random.Generator, street: Street, light: Light) -> Iterator[Thing]:
    """Lamps, signs and traffic lights at the kerb, and sometimes a railing along it."""
    plan = ((furniture.lamp, int(rng.integers(3, 10))), (furniture.sign, int(rng.integers(2, 7))))
    for draw, count in (*plan, (furniture.traffic_light, int(rng.integers(0, 3)))):
        for _ in range(count):
            place = _roadside(rng, street, 4.5, 50.0)
            if place:
                yield place[1], partial(draw, canvas, rng, light, *place)
    if rng.random() < 0.3:
        z = _depth(rng, 2.0, 25.0)
        end = z + float(rng.uniform(3.0, 14.0))
        x = float(rng.choice((-1.0, 1.0))) * (street.half + 0.2)
        if not (street.in_crossing(z) or street.in_crossing(end)):
            yield end, partial(furniture.fence, canvas, rng, x, z, end)


def _traffic(canvas: Canvas, rng: np.random.Generator, street: Street, light: Light) -> Iterator[Thing]:
    """Parked cars, cars in both lanes, cars across, cyclists."""
    for side in (-1, 1):
        z = float(rng.uniform(4.0, 20.0)) if rng.random() < 0.6 else 99.0
        while z < 60.0:
            if not street.in_crossing(z, 3.0) and rng.random() < 0.6:
                x, yaw = side * (street.half - 1.1), float(rng.choice((0.0, np.pi)) + rng.normal(0, 0.04))
                yield z, partial(cars.car, canvas, rng, light, x, z, yaw)
            z += float(rng.uniform(5.2, 9.0))
    for _ in range(int(rng.integers(0, 5))):
        z, side = _depth(rng, 6.0, 70.0), int(rng.choice((-1, 1)))
        x, yaw = side * 0.45 * street.half, (0.0 if side > 0 else np.pi) + float(rng.normal(0, 0.08))
        yield z, partial(cars.car, canvas, rng, light, x, z, yaw)
    if street.crossing[0] < 60.0 and rng.random() < 0.5:
        z, x = float(np.mean(street.crossing)), float(rng.uniform(-12, 12))
        yield (
            z,
            partial(
                cars.car,
                canvas,
                rng,
                light,
                x,
                z,
                float(rng.choice((-0.5, 0.5)) * np.pi + rng.normal(0, 0.2)),
            ),
        )
    for _ in range(int(rng.integers(0, 5))):
        z = _depth(rng, 4.0, 40.0)
        yield z, partial(people.cyclist, canvas, rng, light, float(rng.uniform(-1.0, 1.0)) * street.half, z)


def _walkers(canvas: Canvas, rng: np.random.Generator, street: Street, light: Light) -> Iterator[Thing]:
    """People on the pavements and some on the road."""
    for _ in range(int(rng.integers(0, 10))):
        z = _depth(rng, 3.5, 45.0)
        side = float(rng.choice((-1.0, 1.0)))
        x = side * (street.half + float(rng.uniform(0.2, 1.0)) * street.pavement)
        if rng.random() < 0.2:
            x = float(rng.uniform(-1.0, 1.0)) * street.half
        yield z, partial(people.pedestrian, canvas, rng, light, x, z)
