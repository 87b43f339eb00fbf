"""Label maps and boxes drawn in their classes' colours."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from edgeseg.boxes import Detections
from edgeseg.spec import ClassSpec

GOLDEN_RATIO = 0.6180339887
SURE = 0.3  # the score from which an object is drawn
NOTHING = 255


def distinct_color(index: int) -> tuple[int, int, int]:
    """A colour for class ``index`` where nobody chose one: hues a golden section of the circle apart."""
    level = 0.95 - 0.2 * (index // 3 % 3)
    red, green, blue = colorsys.hsv_to_rgb(index * GOLDEN_RATIO % 1.0, 0.7, level)
    return round(255 * red), round(255 * green), round(255 * blue)


def _palette(classes: Sequence[ClassSpec]) -> NDArray[np.uint8]:
    """uint8 256×3; ids without a class are black."""
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(classes)] = np.array([c.color for c in classes], np.uint8).reshape(-1, 3)
    return colors


def colorize(labels: NDArray[np.uint8], classes: Sequence[ClassSpec]) -> NDArray[np.uint8]:
    """``labels`` uint8 H×W → RGB uint8 H×W×3."""
    return _palette(classes)[labels]


def draw_labels(
    frame: NDArray[np.uint8], labels: NDArray[np.uint8], classes: Sequence[ClassSpec], opacity: float = 0.5
) -> NDArray[np.uint8]:
    """``labels`` uint8 H×W over ``frame`` uint8 H×W×3 RGB → uint8 H×W×3; the frame itself at opacity 0."""
    colors = colorize(labels, classes).astype(np.float32)
    mixed = frame * np.float32(1 - opacity) + colors * np.float32(opacity)
    return (mixed + np.float32(0.5)).astype(np.uint8)


def label_image(labels: NDArray[np.uint8], classes: Sequence[ClassSpec]) -> Image.Image:
    """A palette image whose pixel values are the class ids and whose palette shows their colours."""
    image = Image.fromarray(labels).convert("L")
    image.putpalette(_palette(classes).tobytes())
    return image


def outlines(boxes: NDArray[np.float32], classes: NDArray[np.int32], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The outlines of ``boxes`` N×4, the first on top, as a map of class ids uint8 H×W of ``size``; ``NOTHING``
    elsewhere."""
    image = Image.new("L", (size[1], size[0]), NOTHING)
    pen = ImageDraw.Draw(image)
    for box, kind in reversed(list(zip(_corners(boxes), classes.tolist(), strict=True))):
        pen.rectangle(box, outline=kind, width=_line(size))
    return np.asarray(image)


def draw_boxes(
    frame: NDArray[np.uint8], found: Detections, classes: Sequence[ClassSpec], least: float = SURE
) -> NDArray[np.uint8]:
    """The objects of a score of ``least`` and over, with class and score, on ``frame`` uint8 H×W×3 RGB → the same."""
    image = Image.fromarray(frame)
    pen, width = ImageDraw.Draw(image), _line(frame.shape[:2])
    sure = np.flatnonzero(found.scores[: found.count] >= least)[::-1]  # the best on top
    corners, kinds, scores = _corners(found.boxes[sure]), found.classes[sure].tolist(), found.scores[sure].tolist()
    for box, kind, score in zip(corners, kinds, scores, strict=True):
        pen.rectangle(box, outline=classes[kind].color, width=width)
        tag = f" {classes[kind].name} {score:.2f} "
        around = pen.textbbox((box[0], box[1]), tag, anchor="lb" if box[1] > 12 else "lt")
        pen.rectangle(around, fill=classes[kind].color)
        pen.text(around[:2], tag, fill=(0, 0, 0), anchor="lt")
    return np.asarray(image)


def _corners(boxes: NDArray[np.float32]) -> list[tuple[int, int, int, int]]:
    """First and last pixels x0 y0 x1 y1; a box is never less than a pixel."""
    low = np.floor(boxes[:, :2]).astype(int)
    high = np.maximum(np.ceil(boxes[:, 2:]).astype(int) - 1, low)
    return [(x0, y0, x1, y1) for (x0, y0), (x1, y1) in zip(low.tolist(), high.tolist(), strict=True)]


def _line(size: tuple[int, ...]) -> int:
    return max(1, round(min(size[:2]) / 200))
