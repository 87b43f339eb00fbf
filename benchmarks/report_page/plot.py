"""Latency against accuracy as inline SVG: colour is the target, marker the precision; labels keep apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeseg.benchmarks.report_page.text import escape, number

TEXT_HEIGHT, CHARACTER, REACH = 15.0, 7.0, 9.0
MARKERS = {
    "fp32": '<circle r="5.5" class="open"/>',
    "fp16": '<path d="M0-5.5 5.5 0 0 5.5-5.5 0Z" class="open"/>',
    "int8": '<path d="M0-6 6 4.8H-6Z" class="solid"/>',
}
OTHER_MARKER = '<rect x="-4.5" y="-4.5" width="9" height="9" class="solid"/>'


@dataclass(frozen=True)
class Point:
    """An engine: ``x`` in ms, ``y`` in points or percent, its palette index and precision, mJ a frame if known."""

    x: float
    y: float
    label: str
    color: int
    precision: str
    energy: float | None = None

    @property
    def said(self) -> str:
        energy = "" if self.energy is None else f", {number(self.energy, 1)} mJ"
        return f"{self.label}: {number(self.x, 2)} ms, {number(self.y, 2)}{energy}"


@dataclass(frozen=True)
class Box:
    """An axis-aligned rectangle in the plot's units."""

    left: float
    top: float
    width: float
    height: float

    def meets(self, other: Box) -> bool:
        return (
            self.left < other.left + other.width
            and other.left < self.left + self.width
            and self.top < other.top + other.height
            and other.top < self.top + self.height
        )

    def holds(self, other: Box) -> bool:
        return (
            self.left <= other.left
            and self.top <= other.top
            and other.left + other.width <= self.left + self.width
            and other.top + other.height <= self.top + self.height
        )


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round values (1, 2 or 5 × 10ⁿ apart) from ``low`` to ``high``, some ``about`` of them, two at least."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    fitting = [m * power for m in (0.5, 1, 2, 5, 10) if 2 * m * power <= high - low]
    step = next((s for s in fitting if s >= rough), fitting[-1])
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Frame:
    """The plotting area in the picture, and the range of values it shows."""

    area: Box
    x_high: float
    y_low: float
    y_high: float

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = x / self.x_high
        up = (y - self.y_low) / (self.y_high - self.y_low)
        return self.area.left + across * self.area.width, self.area.top + (1 - up) * self.area.height


def scatter(
    points: Sequence[Point], reference: float | None, measure: str, width: int, height: int
) -> str:  # fmt: skip
    """The picture. ``measure`` names the y axis; ``reference`` is PyTorch's own value, drawn as a line."""
    ys = [p.y for p in points] + ([] if reference is None else [reference])
    # Never less than one point high: noise must not look like a cliff.
    margin = max(0.15 * (max(ys) - min(ys)), (1 - (max(ys) - min(ys))) / 2, 0.1)
    area = Box(48, 28, width - 60, height - 74)
    frame = Frame(area, 1.12 * max(p.x for p in points), min(ys) - margin, max(ys) + margin)
    spots = [frame.place(p.x, p.y) for p in points]
    markers = [Box(x - 7, y - 7, 14, 14) for x, y in spots]
    line, taken = _reference(frame, reference, markers)
    marks = "".join(
        f'<g class="mark c{p.color}" transform="translate({x:.1f} {y:.1f})">'
        f"<title>{escape(p.said)}</title>"
        f"{MARKERS.get(p.precision, OTHER_MARKER)}</g>"
        for p, (x, y) in zip(points, spots, strict=True)
    )
    labels = "".join(_labels(points, spots, area, [*taken, *markers]))
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(measure)} against latency">'
        f"{_axes(frame, measure, height)}{line}{_front(points, frame)}{labels}{marks}</svg>"
    )


def pareto(points: Sequence[Point]) -> list[Point]:
    """Those that no other is at once as quick and as good as, and better in one; from left to right."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if not best or point.y > best[-1].y:
            best.append(point)
    return best


def _front(points: Sequence[Point], frame: Frame) -> str:
    spots = [frame.place(p.x, p.y) for p in pareto(points)]
    if len(spots) < 2:
        return ""
    steps = "".join(f"H{x:.1f}V{y:.1f}" for x, y in spots[1:])
    return f'<path class="front" d="M{spots[0][0]:.1f} {spots[0][1]:.1f}{steps}"/>'


def _axes(frame: Frame, measure: str, height: int) -> str:
    area, parts = frame.area, []
    right, bottom = area.left + area.width, area.top + area.height
    ys = ticks(frame.y_low, frame.y_high, max(3, round(area.height / 70)))
    digits = max(0, -math.floor(math.log10(ys[1] - ys[0]) + 1e-9))
    for value in ys:
        _, y = frame.place(0, value)
        parts.append(f'<path class="grid" d="M{area.left} {y:.1f}h{area.width}"/>')
        parts.append(_text("tick", area.left - 8, y + 4, number(value, digits), "end"))
    for value in ticks(0, frame.x_high, max(3, round(area.width / 110))):
        x, _ = frame.place(value, frame.y_low)
        parts.append(_text("tick", x, bottom + 20, f"{value:g}", "middle"))
    parts.append(f'<path class="axis" d="M{area.left} {bottom}h{area.width}"/>')
    parts.append(_text("name", 0, 14, measure))
    parts.append(_text("name", right, height - 6, "p50 latency, ms", "end"))
    return "".join(parts)


def _text(look: str, x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text class="{look}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _reference(frame: Frame, value: float | None, markers: Sequence[Box]) -> tuple[str, list[Box]]:
    """PyTorch's line, its words where they hide no marker, and what of the picture these take."""
    if value is None:
        return "", []
    text, area = f"PyTorch {number(value, 2)}", frame.area
    _, y = frame.place(0, value)
    width = CHARACTER * len(text)
    places = [Box(x, y - TEXT_HEIGHT - 4, width, TEXT_HEIGHT) for x in range(int(area.left) + 8, int(area.width), 12)]
    box = next((b for b in places if area.holds(b) and not any(b.meets(m) for m in markers)), places[0])
    line = f'<path class="reference" d="M{area.left} {y:.1f}h{area.width}"/>'
    return line + _text("tick said", box.left, y - 6, text), [box, Box(area.left, y - 2, area.width, 4)]


def _labels(
    points: Sequence[Point], spots: Sequence[tuple[float, float]], area: Box, taken: list[Box]
) -> Iterator[str]:  # fmt: skip
    """A label beside each marker; farther off, with a thin line, where it is crowded; none without room."""
    for point, (x, y) in zip(points, spots, strict=True):
        width = CHARACTER * len(point.label)
        for box, far in _candidates(x, y, width):
            if area.holds(box) and not any(box.meets(other) for other in taken):
                taken.append(box)
                if far:
                    yield _leader(x, y, box)
                yield _text(f"label c{point.color}", box.left, box.top + 11.5, point.label)
                break


def _candidates(x: float, y: float, width: float) -> Iterator[tuple[Box, bool]]:
    half = TEXT_HEIGHT / 2
    for step in range(9):
        off = REACH + 13 * step
        for across, down in (
            (1, 0),
            (-1, 0),
            (0, -1),
            (0, 1),
            (0.75, -0.8),
            (0.75, 0.8),
            (-0.75, -0.8),
            (-0.75, 0.8),
        ):
            left = x + across * off - (width if across < 0 else width / 2 if across == 0 else 0)
            centre = y + down * (off + (half if across == 0 else 0))
            yield Box(left, centre - half, width, TEXT_HEIGHT), step > 0


def _leader(x: float, y: float, box: Box) -> str:
    end_x = min(max(x, box.left), box.left + box.width)
    end_y = min(max(y, box.top + 2), box.top + box.height - 2)
    length = math.hypot(end_x - x, end_y - y) or 1.0
    start_x, start_y = x + (end_x - x) * REACH / length, y + (end_y - y) * REACH / length
    return f'<path class="leader" d="M{start_x:.1f} {start_y:.1f}L{end_x:.1f} {end_y:.1f}"/>'


def legend(targets: dict[str, int], precisions: Sequence[str]) -> str:
    colors = "".join(f'<li><i class="dot c{index}"></i>{escape(target)}</li>' for target, index in targets.items())
    shapes = "".join(
        f'<li><svg class="key" viewBox="-8 -8 16 16" aria-hidden="true">{MARKERS.get(p, OTHER_MARKER)}</svg>'
        f"{escape(p)}</li>"
        for p in precisions
    )
    return f'<ul class="legend">{colors}</ul><ul class="legend">{shapes}</ul>'
