"""Label maps drawn in their classes' colours."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeseg.spec import ClassSpec

GOLDEN_RATIO = 0.6180339887


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
