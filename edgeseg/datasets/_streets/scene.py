"""One street scene: plan, light, camera, things far to near, shading, weather, sensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from edgeseg.datasets._streets import background, buildings
from edgeseg.datasets._streets.camera import Camera, sample_camera
from edgeseg.datasets._streets.canvas import Canvas
from edgeseg.datasets._streets.light import Light, sample_light
from edgeseg.datasets._streets.noise import Plane
from edgeseg.datasets._streets.populate import things
from edgeseg.datasets._streets.sensor import expose
from edgeseg.datasets._streets.street import Street, sample_street
from edgeseg.datasets._streets.surfaces import shade


@dataclass(frozen=True)
class Scene:
    """``frame`` uint8 H×W×3; ``labels`` uint8 H×W; ``instances`` int32 H×W, 0 or the number of the object
    seen there, whose class is ``instance_labels[number - 1]``."""

    frame: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    instances: NDArray[np.int32]
    instance_labels: list[int]


def render(rng: np.random.Generator, size: tuple[int, int]) -> Scene:
    """A scene of ``size`` (height, width), a pure function of the generator's state."""
    street, light = sample_street(rng), sample_light(rng)
    camera = sample_camera(rng, size, street.half)
    canvas = Canvas(camera)
    buildings.backdrop(canvas, rng)
    for _, draw in sorted(things(canvas, rng, street, light), key=lambda thing: -thing[0]):
        draw()
    numbers, shadow = canvas.paint()
    rays = camera.rays()
    color, labels, depth = _empty_street(rng, camera, street, light, shadow)
    drawn = np.flatnonzero(numbers)
    parts = numbers.ravel()[drawn]
    seen = tuple(axis.ravel()[drawn] for axis in rays)
    shown, depth.ravel()[drawn] = shade(parts, canvas.parts, camera, (seen[0], seen[1], seen[2]), light)
    for channel, values in zip(color, shown, strict=True):
        channel.ravel()[drawn] = values
    table = np.array([(p.label, p.instance) for p in canvas.parts], np.int32)
    labels.ravel()[drawn] = table[parts - 1, 0]
    instances = np.zeros(size, np.int32)
    instances.ravel()[drawn] = table[parts - 1, 1]
    frame = expose(rng, _weather(rng, color, depth, light))
    return Scene(frame, labels, instances, canvas.instance_labels)


def _empty_street(
    rng: np.random.Generator, camera: Camera, street: Street, light: Light, shadow: NDArray[np.uint8]
) -> tuple[Plane, NDArray[np.uint8], Plane]:
    """Colour 3×H×W, labels H×W and depth H×W: sky above the horizon, ground below, each shaded only in the
    rows where it occurs."""
    rays, (height, width) = camera.rays(), camera.size
    color = np.empty((3, height, width), np.float32)
    labels = np.zeros((height, width), np.uint8)
    depth = np.full((height, width), 2.0, np.float32)  # fog is mixed into the sky's gradient already
    below = rays[1] < 0
    last, first = (np.flatnonzero(rows.any(1)) for rows in (~below, below))
    if len(last):
        top = slice(0, int(last[-1]) + 1)
        color[:, top] = background.sky(rng, (rays[0][top], rays[1][top], rays[2][top]), light)
    if len(first):
        low = slice(int(first[0]), height)
        rows = rays[0][low], rays[1][low], rays[2][low]
        on, kind, away = background.ground(rng, camera, rows, street, light, shadow[low])
        here = below[low]
        np.copyto(color[:, low], on, where=here)
        np.copyto(labels[low], kind, where=here)
        np.copyto(depth[low], away, where=here)
    return color, labels, depth


def _weather(rng: np.random.Generator, color: Plane, depth: Plane, light: Light) -> Plane:
    """Haze with distance, and streaks of rain."""
    veil = np.float32(1.0) - np.exp(np.float32(-light.fog) * depth)
    rest = np.float32(1.0) - veil
    for channel, haze in zip(color, light.horizon, strict=True):
        channel *= rest
        channel += veil * haze
    if light.rain:
        _rain(rng, color, light)
    return color


def _rain(rng: np.random.Generator, color: Plane, light: Light) -> None:
    """Streaks a little brighter than the haze, drawn over ``color`` in place."""
    height, width = color.shape[1:]
    image = Image.new("L", (width, height))
    draw, slant = ImageDraw.Draw(image), float(rng.normal(0, 0.15))
    for x, y, length in (rng.random((90, 3)) * (width, height, 0.09 * height) + (0, 0, 3)).tolist():
        draw.line((x, y, x + slant * length, y + length), fill=60)
    streak = np.flatnonzero(np.asarray(image))
    for channel, haze in zip(color, light.horizon, strict=True):
        channel.ravel()[streak] += np.float32(0.24) * (np.float32(1.2) * haze - channel.ravel()[streak])
