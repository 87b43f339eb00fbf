"""``report.html``: one file that shows what was built, whether it still sees the same, and how fast.

It loads nothing from elsewhere, and its content security policy says so; it reads without JavaScript.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from edgeseg import __version__
from edgeseg.artifact import write_whole
from edgeseg.benchmarks.report_page import details, images, plot, summary, table, times
from edgeseg.benchmarks.report_page.images import Overlay
from edgeseg.benchmarks.report_page.text import Run, count, dig, escape, figure, metric, name
from edgeseg.errors import InputError
from edgeseg.spec import PRECISIONS

__all__ = ["Overlay", "write_report"]

WIDE, NARROW = (1160, 460), (350, 380)
COLORS = 6


def write_report(runs: Sequence[Run], overlays: Sequence[Overlay], out: str | Path) -> None:
    """Write the page to the file ``out``, whole or not at all.

    Args:
        runs: the runs of a ``check``, ``bench`` or ``matrix`` document; absent parts are left out.
        overlays: frames to show.

    Raises:
        InputError: no runs.
    """
    if not runs:
        raise InputError("a report needs at least one run")
    write_whole(Path(out), page(runs, overlays))


def page(runs: Sequence[Run], overlays: Sequence[Overlay]) -> str:
    """The page's HTML."""
    style, script = (_piece(file) for file in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    models = list(dict.fromkeys(str(dig(run, "model")) for run in runs))
    groups = [[run for run in runs if str(dig(run, "model")) == model] for model in models]
    swatches = {c.name: c.color for overlay in overlays for c in overlay.classes}
    title = f"{', '.join(models)}: {summary.verdict(runs)}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>{summary.header(runs)}"
        f"{''.join(_model(group, len(groups) > 1, swatches) for group in groups)}"
        f"{times.section(runs)}{_overlays(overlays)}{details.section(runs)}"
        f"<footer>edgeseg {__version__}</footer></main>"
        f"<script>{script}</script></body></html>\n"
    )


def _piece(file: str) -> str:
    return (files("edgeseg.benchmarks.report_page") / file).read_text(encoding="utf-8")


def _model(runs: Sequence[Run], named: bool, swatches: Mapping[str, table.Color]) -> str:
    colors = {target: i % COLORS for i, target in enumerate(dict.fromkeys(str(dig(run, "target")) for run in runs))}
    title = f"{dig(runs[0], 'model')}: engines" if named else "Engines"
    return (
        f"<section><h2>{escape(title)}</h2>{table.matrix(runs, colors)}{_disturbed(runs)}"
        f"{table.per_class(runs, swatches)}</section>{_plot(runs, colors)}"
    )


def _disturbed(runs: Sequence[Run]) -> str:
    unsure = sum(dig(run, "validity", "valid") is False for run in runs)
    if not unsure:
        return ""
    return (
        f'<p class="note">≈ The machine was disturbed while {count(unsure, "engine was", "engines were")}'
        " timed: latencies are estimates. The reasons stand under How this was measured.</p>"
    )


def _plot(runs: Sequence[Run], colors: Mapping[str, int]) -> str:
    measure, keys, scale = f"{metric(runs)}, points", ("parity", "engine"), 1.0
    if not any(figure(run, *keys) is not None for run in runs):
        measure, keys, scale = "agreement with PyTorch, %", ("parity", "agreement"), 100.0
    points = []
    for run in runs:
        x, y = figure(run, "latency_ms", "p50"), figure(run, *keys)
        if x and y is not None:
            color, energy = colors[str(dig(run, "target"))], figure(run, "energy_mj_per_frame")
            points.append(plot.Point(x, y * scale, name(run), color, str(dig(run, "precision")), energy))
    if not points:
        return ""
    references = [v for run in runs if (v := figure(run, "parity", "reference")) is not None]
    drawn = "".join(
        f'<div class="{look}">{plot.scatter(points, next(iter(references), None), measure, *size)}</div>'
        for look, size in (("wide", WIDE), ("narrow", NARROW))
    )
    present = {p.precision for p in points}
    precisions = [p for p in PRECISIONS if p in present] + sorted(present - set(PRECISIONS))
    return (
        "<section><h2>Accuracy against latency</h2><p>Higher sees better, further left answers sooner."
        " The line joins what no other engine beats in both.</p>"
        f'<div class="plot">{plot.legend(dict(colors), precisions)}{drawn}</div></section>'
    )


def _overlays(overlays: Sequence[Overlay]) -> str:
    if not overlays:
        return ""
    return f"<section><h2>What they see</h2>{images.section(overlays)}</section>"
