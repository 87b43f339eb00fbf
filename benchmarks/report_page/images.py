"""Frames with label maps over them: the photograph embedded once a frame, the maps as small palette PNGs."""

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
WORST = 3


@dataclass(frozen=True)
class Overlay:
    """A frame to show: ``frame`` uint8 H×W×3 RGB; class ids uint8 H×W of PyTorch, of the engine called
    ``name``, and of the ground truth where there is one. Ids without a class are drawn transparent. Overlays
    of one frame and reference (several engines) are shown together."""

    title: str
    frame: NDArray[np.uint8]
    reference: Map
    engine: Map
    truth: Map | None
    classes: tuple[ClassSpec, ...]
    name: str = "Engine"

    @property
    def differs(self) -> NDArray[np.bool_]:
        """Where the engine gives another class than PyTorch, H×W."""
        return np.not_equal(self.reference, self.engine)


def section(overlays: Sequence[Overlay]) -> str:
    """Each frame once with what its engines made of it."""
    groups: dict[tuple[str, bytes, bytes], list[Overlay]] = {}
    for overlay in overlays:
        key = (overlay.title, overlay.frame.tobytes(), overlay.reference.tobytes())
        groups.setdefault(key, []).append(overlay)
    return "".join(_frame(group) for group in groups.values())


def _frame(group: Sequence[Overlay]) -> str:
    first = group[0]
    height, width = first.frame.shape[:2]
    tiles = [_tile("Frame")]
    if first.truth is not None:
        tiles.append(_tile("Ground truth", _mask(first.truth, first.classes, "ground truth")))
    tiles.append(_tile("PyTorch", _mask(first.reference, first.classes, "PyTorch's labels")))
    ranked = sorted(group, key=lambda overlay: -int(overlay.differs.sum()))
    shown, rest = ("".join(_engine(o) for o in part) for part in (ranked[:WORST], ranked[WORST:]))
    more = f"{len(ranked) - WORST} more, closer to PyTorch"
    fold = f'<details class="fold"><summary>{more}</summary>{rest}</details>' if rest else ""
    return (
        f'<article class="overlay" style="--frame:url({_jpeg(first.frame)});--ratio:{width}/{height}">'
        f"<h3>{escape(first.title)}</h3>{_legend(group)}"
        f'<div class="tiles given">{"".join(tiles)}</div>{shown}{fold}</article>'
    )


def _engine(overlay: Overlay) -> str:
    pixels, total = int(overlay.differs.sum()), overlay.differs.size
    labels = _tile("Labels", _mask(overlay.engine, overlay.classes, f"labels of {overlay.name}"))
    difference = _tile("Difference", _hits(overlay.differs), "grey")
    return (
        f'<div class="tiles">{labels}{difference}<div class="said"><h4>{escape(overlay.name)}</h4>'
        f"<p>{100 * pixels / total:.2f}\N{THIN SPACE}%</p>"
        f"<small>{number(pixels, 0)} of {number(total, 0)} pixels differ</small></div></div>"
    )


def _tile(caption: str, mask: str = "", look: str = "") -> str:
    alone = "" if mask else f' role="img" aria-label="{caption}"'
    return (
        f'<figure><div class="stack"><div class="under {look}"{alone}></div>{mask}</div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _legend(group: Sequence[Overlay]) -> str:
    first = group[0]
    maps = [first.reference, *(o.engine for o in group), *([] if first.truth is None else [first.truth])]
    present = np.unique(np.concatenate([np.unique(m) for m in maps]))
    items = "".join(f"<li>{swatch(c.color)}{escape(c.name)}</li>" for i, c in enumerate(first.classes) if i in present)
    margin = _margin(first.differs)
    hit = f'<li><i class="swatch hit"></i>differs{f", drawn {margin} px wider" if margin else ""}</li>'
    return f'<ul class="legend" aria-label="Classes">{items}{hit}</ul>'


def _mask(labels: Map, classes: Sequence[ClassSpec], what: str) -> str:
    # Ids without a class share one more, transparent, entry: Pillow packs pixels by the palette's length.
    image = Image.fromarray(np.minimum(labels, min(len(classes), 255)).astype(np.uint8), "P")
    image.putpalette([*(v for c in classes for v in c.color), 0, 0, 0][: 3 * 256])
    alpha = bytes([255] * len(classes) + [0])[:256]
    return f'<img class="mask" alt="{escape(what)}" src="{_png(image, alpha)}">'


def _margin(differ: NDArray[np.bool_]) -> int:
    """Pixels by which what differs is drawn wider: a single one would vanish where a large picture is shown small."""
    return len(differ[0]) // 640


def _hits(differ: NDArray[np.bool_]) -> str:
    grown = Image.fromarray(differ.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(2 * _margin(differ) + 1))
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
