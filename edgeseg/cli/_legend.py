"""What stands on an overlay beside the labels: their classes' names, and the frame rate."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edgeseg.cli._sources import Frame
from edgeseg.spec import ClassSpec

Row = tuple[str, tuple[int, int, int] | None]  # a text, behind a square of its colour where it has one
SHADE, INK = (0, 0, 0, 160), (255, 255, 255)
LEAST_PX = 10  # a text's height; more on a large frame


class Legend:
    """Colour and name of the classes on a frame, by id. With ``keep`` also of those on the frames before, so that the
    list of a moving picture does not flicker. Where the frame is too low for all, it names those of the most pixels."""

    def __init__(self, classes: Sequence[ClassSpec], keep: bool) -> None:
        self._classes, self._keep = classes, keep
        self._seen = np.zeros(len(classes), bool)

    def draw(self, overlay: Frame, labels: Frame) -> Frame:
        """The legend of ``labels`` uint8 H×W at the top left of ``overlay`` uint8 H×W×3 RGB → the same."""
        pixels = np.bincount(labels.ravel(), minlength=len(self._classes))[: len(self._classes)]
        self._seen = (pixels > 0) | (self._seen & self._keep)
        ids = np.flatnonzero(self._seen)
        fits = max(1, (overlay.shape[0] - 2 * _text_px(overlay)) // _row_px(overlay))
        named = ids
        if len(ids) > fits:
            named = np.sort(ids[np.argsort(-pixels[ids], kind="stable")[: max(1, fits - 1)]])
        rows: list[Row] = [(self._classes[i].name, self._classes[i].color) for i in named.tolist()]
        if len(named) < len(ids):
            rows.append((f"+ {len(ids) - len(named)} more", None))
        return draw_panel(overlay, rows)


def draw_panel(image: Frame, rows: Sequence[Row], *, right: bool = False) -> Frame:
    """``rows`` on a dark ground at the top left, or top ``right``, of ``image`` uint8 H×W×3 RGB → the same."""
    size, step = _text_px(image), _row_px(image)
    font, gap = _font(size), size // 2
    indent = size + gap if any(color for _, color in rows) else 0
    width = round(max(font.getlength(text) for text, _ in rows)) + indent + 2 * gap
    left = max(0, image.shape[1] - width) if right else 0
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture, "RGBA")
    pen.rectangle((left, 0, left + width - 1, step * len(rows) + gap - 1), fill=SHADE)
    for i, (text, color) in enumerate(rows):
        x, y = left + gap, i * step + gap
        if color is not None:
            pen.rectangle((x, y, x + size - 1, y + size - 1), fill=color)
        pen.text((x + indent, y + size / 2), text, fill=INK, font=font, anchor="lm")
    return np.array(picture)


def _text_px(image: Frame) -> int:
    height, width = image.shape[:2]
    return max(LEAST_PX, int(min(height, width)) // 36)


def _row_px(image: Frame) -> int:
    return _text_px(image) * 13 // 10


@functools.cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)
