"""Frames with label maps over them. The photograph is embedded once a frame; the maps are small palette PNGs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from edgeseg.benchmarks.report_page.table import swatch
from edgeseg.benchmarks.report_page.text import escape, number
from edgeseg.spec import ClassSpec

Map = NDArray[np.uint8]
HIT = (255, 20, 110)


@dataclass(frozen=True)
class Overlay:
    """A frame to show: ``frame`` uint8 H×W×3 RGB; class ids uint8 H×W of PyTorch, of the engine, and of the
    ground truth where there is one. Ids without a class are drawn transparent."""

    title: str
    frame: NDArray[np.uint8]
    reference: Map
    engine: Map
    truth: Map | None
    classes: tuple[ClassSpec, ...]


def section(overlay: Overlay) -> str:
    """The frame, the truth, both label maps, and where they differ."""
    height, width = overlay.frame.shape[:2]
    differ = overlay.reference != overlay.engine
    pixels = int(differ.sum())
    share = f"{number(pixels, 0)} of {number(differ.size, 0)} pixels differ ({100 * pixels / differ.size:.2f}\N{THIN SPACE}%)"
    tiles = [_tile("Frame", "", "")]
    if overlay.truth is not None:
        tiles.append(_tile("Ground truth", "", _mask(overlay.truth, overlay.classes, "ground truth")))
    tiles.append(_tile("PyTorch", "", _mask(overlay.reference, overlay.classes, "PyTorch's labels")))
    tiles.append(_tile("Engine", "", _mask(overlay.engine, overlay.classes, "the engine's labels")))
    tiles.append(_tile("Difference", "grey", _difference(differ)))
    return (
        f'<article class="overlay"><header><h3>{escape(overlay.title)}</h3><p>{share}</p></header>'
        f'<div class="tiles" role="region" aria-label="{escape(overlay.title)}" tabindex="0"'
        f' style="--frame:url({_jpeg(overlay.frame)});--ratio:{width}/{height}">{"".join(tiles)}'
        f"{_legend(overlay)}</div></article>"
    )


def _tile(caption: str, look: str, mask: str) -> str:
    picture = f'<div class="under {look}" role="img" aria-label="{caption}"></div>' if not mask else (
        f'<div class="under {look}"></div>{mask}'
    )  # fmt: skip
    return f'<figure><div class="stack">{picture}</div><figcaption>{caption}</figcaption></figure>'


def _legend(overlay: Overlay) -> str:
    maps = [overlay.reference, overlay.engine] + ([] if overlay.truth is None else [overlay.truth])
    present = np.unique(np.concatenate([np.unique(m) for m in maps]))
    items = "".join(
        f"<li>{swatch(c.color)}{escape(c.name)}</li>" for i, c in enumerate(overlay.classes) if i in present
    )
    return f'<ul class="key-list" aria-label="Classes">{items}<li><i class="swatch hit"></i>differs, drawn 1 px wider</li></ul>'


def _mask(labels: Map, classes: Sequence[ClassSpec], what: str) -> str:
    image = Image.fromarray(labels, "P")
    image.putpalette([v for c in classes for v in c.color])
    alpha = bytes(255 if i < len(classes) else 0 for i in range(256))
    return f'<img class="mask" alt="{what}" src="{_png(image, alpha)}">'


def _difference(differ: NDArray[np.bool_]) -> str:
    # One pixel more on each side: thin borders would vanish where the picture is shown smaller.
    grown = Image.fromarray(differ.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(3))
    image = Image.fromarray((np.asarray(grown) > 0).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, *HIT])
    return f'<img class="hits" alt="pixels that differ" src="{_png(image, bytes([0, 255]))}">'


def _png(image: Image.Image, alpha: bytes) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=alpha, optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _jpeg(frame: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=88, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
