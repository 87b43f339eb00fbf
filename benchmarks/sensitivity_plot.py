"""The noise of every layer as a picture: one bar a layer, in the order in which they compute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from edgeseg.artifact import write_whole
from edgeseg.benchmarks.report_page.text import escape
from edgeseg.export.quantize.layer import Layer

LEFT, TOP, HEIGHT, BELOW = 56, 44, 300, 44
LEAST_WIDTH, LEAST_BAR = 640, 5
NAMED = 5  # layers whose names stand over their bars
DECADES = 5  # below the noisiest layer


def write_plot(layers: Sequence[Layer], title: str, path: Path) -> None:
    """An SVG at ``path``: each layer's share of the noise of all, on a logarithmic scale; the noisiest in colour."""
    write_whole(path, drawn(layers, title))


def drawn(layers: Sequence[Layer], title: str) -> str:
    """The SVG's text."""
    width = max(LEAST_WIDTH, LEFT + LEAST_BAR * len(layers) + 20)
    step = (width - LEFT - 20) / max(len(layers), 1)
    total = sum(layer.noise for layer in layers) or 1.0
    top = math.ceil(math.log10(max((layer.noise / total for layer in layers), default=1.0) or 1.0) + 1e-9)
    bars, names = [], []
    noisiest = sorted(range(len(layers)), key=lambda i: -layers[i].noise)[:NAMED]
    for i, layer in enumerate(layers):
        share = layer.noise / total
        high = 0.0 if share == 0 else max(0.0, 1 + (math.log10(share) - top) / DECADES) * HEIGHT
        x, y = LEFT + i * step, TOP + HEIGHT - high
        shares = f"{100 * share:.2f} % of the noise, {100 * layer.work:.2f} % of the work"
        bars.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(step - 1, 1):.1f}" height="{high:.1f}"'
            f' fill="{"#c2410c" if i in noisiest else "#64748b"}">'
            f"<title>{escape(layer.name)} ({layer.operators}): {shares}</title></rect>"
        )
        if i in noisiest:
            right = i > len(layers) / 2
            names.append(
                f'<text x="{x + (step if right else 0):.1f}" y="{y - 4 - 11 * (noisiest.index(i) % 2):.1f}"'
                f' text-anchor="{"end" if right else "start"}">{escape(layer.name)}</text>'
            )
    lines = []
    for decade in range(DECADES + 1):
        y = TOP + HEIGHT * decade / DECADES
        lines.append(f'<path d="M{LEFT} {y:.1f}H{width - 20}" stroke="#cbd5e1"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * 10 ** (top - decade):g} %</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {TOP + HEIGHT + BELOW}" width="{width}"'
        ' font-family="system-ui, sans-serif" font-size="11" fill="#334155">'
        f'<rect width="100%" height="100%" fill="#fff"/><text x="{LEFT}" y="18" font-size="14">'
        f"{escape(title)}: each layer alone in int8, share of the noise of all</text>"
        f"{''.join(lines)}{''.join(bars)}{''.join(names)}"
        f'<text x="{LEFT}" y="{TOP + HEIGHT + 18}">{len(layers)} layers, from the frame to the answer</text></svg>\n'
    )
