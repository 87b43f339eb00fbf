"""The drawing: polygons in street coordinates, painted far to near into one map of part numbers.

A part is a piece of surface with one colour, plane and texture. Image, labels and instances are all
looked up from the same map, so they agree at every pixel by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from edgeseg.datasets._streets.camera import NEAR, Camera, Points

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Texture:
    """Noise of ``amplitude`` at ``per_metre`` tile entries a metre, and a grid of panes (windows, gaps of a
    fence): cells of ``cell`` metres whose lower ``pane`` fraction shows ``behind`` instead."""

    amplitude: float = 0.08
    per_metre: float = 24.0
    cell: tuple[float, float] = (1.0, 1.0)
    pane: tuple[float, float] = (-1.0, -1.0)
    behind: Color = (0.15, 0.17, 0.2)


PLAIN = Texture()


@dataclass(frozen=True)
class Part:
    """Albedo ``color`` 0..1 on the plane ``normal · p = normal · anchor``, anchor in street coordinates."""

    label: int
    color: Color
    anchor: tuple[float, float, float]
    normal: tuple[float, float, float] = (0.0, 0.0, -1.0)
    texture: Texture = PLAIN
    instance: int = 0


class Canvas:
    """Collects polygons; ``paint`` projects them all at once and draws them in the order they came."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.parts: list[Part] = []
        self.instance_labels: list[int] = []
        self._polygons: list[tuple[int, int]] = []
        self._shadows: list[int] = []
        self._points: list[Points] = []
        self._shadow_points: list[Points] = []

    def instance(self, label: int) -> int:
        """A new object of class ``label``; its number, from 1."""
        self.instance_labels.append(label)
        return len(self.instance_labels)

    def add(self, part: Part, points: Points) -> int:
        """Draw a polygon N×3 as a new part; the part's number."""
        self.parts.append(part)
        self.again(len(self.parts), points)
        return len(self.parts)

    def again(self, number: int, points: Points) -> None:
        """Draw one more polygon N×3 of an existing part."""
        self._polygons.append((number, len(points)))
        self._points.append(points)

    def flat(self, number: int, shape: Points, at: tuple[float, float]) -> None:
        """Draw a polygon N×2 (x, y) upright across the street at (x, z), as an existing part."""
        upright = np.empty((len(shape), 3))
        upright[:, 0] = shape[:, 0] + at[0]
        upright[:, 1] = shape[:, 1]
        upright[:, 2] = at[1]
        self.again(number, upright)

    def part(self, part: Part) -> int:
        """A new part without a polygon yet; its number."""
        self.parts.append(part)
        return len(self.parts)

    def shadow(self, outline: Points) -> None:
        """Darken a polygon N×2 (x, z) of the ground."""
        ground = np.zeros((len(outline), 3))
        ground[:, ::2] = outline
        self._shadows.append(len(outline))
        self._shadow_points.append(ground)

    def paint(self) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Part numbers H×W (0: nothing drawn) and the ground's shadow mask H×W (0 or 255)."""
        height, width = self.camera.size
        numbers, mask = Image.new("I", (width, height)), Image.new("L", (width, height))
        self._draw(numbers, self._points, self._polygons)
        self._draw(mask, self._shadow_points, [(255, n) for n in self._shadows])
        return np.asarray(numbers, np.int32), np.asarray(mask)

    def _draw(self, image: Image.Image, points: Sequence[Points], polygons: Sequence[tuple[int, int]]) -> None:
        if not polygons:
            return
        pixels, depth = self.camera.project(np.concatenate(points))
        ends = np.cumsum([count for _, count in polygons])
        starts = np.concatenate(((0,), ends[:-1]))
        low, high = np.minimum.reduceat(pixels, starts), np.maximum.reduceat(pixels, starts)
        shown = (low < (image.width + 1, image.height + 1)).all(1) & (high > -2).all(1)
        shown &= np.minimum.reduceat(depth, starts) > NEAR
        # Pillow wants modest coordinates; what lies this far outside is not seen anyway.
        flat, polygon = pixels.clip(-4000, 4000).ravel().tolist(), ImageDraw.Draw(image).polygon
        spans = list(zip(starts.tolist(), ends.tolist(), strict=True))
        for i in np.flatnonzero(shown).tolist():
            start, end = spans[i]
            polygon(flat[2 * start : 2 * end], fill=polygons[i][0])
