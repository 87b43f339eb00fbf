"""The table targets × precisions, and the table of classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

from edgeseg.benchmarks.report_page.text import ABSENT, Run, dig, digits_for, escape, figure, metric, number, scroll
from edgeseg.metrics import TITLES

Color = tuple[int, int, int]
LOW = 2.0


@dataclass(frozen=True)
class Column:
    """A column of figures: the ``group`` above its ``head``, its value, decimals where they are fixed."""

    group: str
    head: str
    value: Callable[[Run], float | None]
    digits: int | None = None
    bar: bool = False


def _at(*keys: str, scale: float = 1.0) -> Callable[[Run], float | None]:
    def value(run: Run) -> float | None:
        found = figure(run, *keys)
        return None if found is None else found * scale

    return value


def columns(runs: Sequence[Run]) -> list[Column]:
    """Those columns that some run has figures for."""
    labelled = any(dig(run, "parity", "quantization", "drop") is not None for run in runs)
    cause, scale, unit = ("drop", 1.0, "points") if labelled else ("agreement", 100.0, "agreement %")
    score = metric(runs)
    boxes = score == TITLES["map"]
    wanted = [
        Column(f"{score}, points", "PyTorch", _at("parity", "reference"), 2),
        Column(f"{score}, points", "Engine", _at("parity", "engine"), 2),
        Column(f"{score}, points", "Drop", _at("parity", "drop"), 2),
        Column("Objects" if boxes else "Labels", "Agree %", _at("parity", "agreement", scale=100), 2),
        Column(f"int8 loss, {unit}", "Quantization", _at("parity", "quantization", cause, scale=scale), 2),
        Column(f"int8 loss, {unit}", "Engine error", _at("parity", "engine_error", cause, scale=scale), 2),
        Column("Latency, ms", "p50", _at("latency_ms", "p50"), bar=True),
        Column("Latency, ms", "p99", _at("latency_ms", "p99")),
        Column("Latency, ms", "p99.9", _at("latency_ms", "p999")),
        Column("Rate", "FPS", _at("fps")),
        Column("Rate", "offline", _at("scenarios", "offline", "throughput_fps")),
        Column("Energy", "mJ a frame", _at("energy_mj_per_frame")),
        Column("Energy", "W", _at("energy", "average_w")),
        Column("Files", "MB", _at("size_mb"), 2),
    ]
    return [column for column in wanted if any(column.value(run) is not None for run in runs)]


def matrix(runs: Sequence[Run], colors: Mapping[str, int]) -> str:
    """One row a run. ``colors`` gives each target its palette index."""
    shown = columns(runs)
    spans = "".join(
        f'<th colspan="{len(list(members))}" scope="colgroup" class="group">{escape(group)}</th>'
        for group, members in groupby(column.group for column in shown)
    )
    heads = "".join(_head(column.head, "figure") for column in shown)
    cells = _cells(runs, shown, colors)
    rows = "".join(_row(run, row, colors) for run, row in zip(runs, cells, strict=True))
    heads = f"{_head('Target')}{_head('Precision')}{heads}{_head('Gate')}"
    head = f'<tr><td colspan="2"></td>{spans}<td></td></tr><tr>{heads}</tr>'
    return scroll("Targets and precisions", "matrix", f"<thead>{head}</thead><tbody>{rows}</tbody>")


def _head(text: str, look: str = "") -> str:
    return f'<th scope="col" class="{look}" data-sort>{escape(text)}</th>'


def _cells(runs: Sequence[Run], shown: Sequence[Column], colors: Mapping[str, int]) -> list[str]:
    rows = [""] * len(runs)
    for column in shown:
        values = [column.value(run) for run in runs]
        digits = digits_for(values) if column.digits is None else column.digits
        most = max((v for v in values if v is not None), default=0.0)
        for index, value in enumerate(values):
            bar = mark = ""
            if column.bar and value is not None:
                color = colors.get(str(dig(runs[index], "target")), 0)
                bar = f'<i class="bar c{color}" style="--share:{value / most:.3f}"></i>'
                mark = _mark(runs[index])
            key = "" if value is None else f"{value:.9g}"
            rows[index] += f'<td class="figure" data-value="{key}">{mark}{number(value, digits)}{bar}</td>'
    return rows


def _mark(run: Run) -> str:
    if dig(run, "validity", "valid") is not False:
        return ""
    reasons = "; ".join(str(reason) for reason in dig(run, "validity", "reasons") or ())
    return f'<abbr class="unsure" title="{escape(reasons)}">≈</abbr>'


def _row(run: Run, cells: str, colors: Mapping[str, int]) -> str:
    target, precision = str(dig(run, "target") or ABSENT), str(dig(run, "precision") or ABSENT)
    board = f"{found} " if (found := dig(run, "board")) else ""
    dot = f'<i class="dot c{colors.get(target, 0)}"></i>'
    return (
        f'<tr><th scope="row" data-value="{escape(target)}">{dot}{escape(board)}{escape(target)}</th>'
        f'<td data-value="{escape(precision)}">{escape(precision)}</td>{cells}'
        f"{_badge(dig(run, 'parity', 'passed'))}</tr>"
    )


def _badge(passed: object) -> str:
    if passed is None:
        return f'<td data-value="">{ABSENT}</td>'
    word = "pass" if passed else "fail"
    return f'<td data-value="{word}"><span class="badge {word}">{word}</span></td>'


def per_class(runs: Sequence[Run], swatches: Mapping[str, Color]) -> str:
    """IoU, or AP, of each class and engine, in points; empty where no run has them."""
    scored = [run for run in runs if dig(run, "parity", "per_class")]
    if not scored:
        return ""
    names = list(dict.fromkeys(name for run in scored for name in run["parity"]["per_class"]))
    heads = "".join(
        f'<th scope="col" class="figure">{escape(dig(run, "target"))}<br><b>{escape(dig(run, "precision"))}</b></th>'
        for run in scored
    )
    rows = "".join(_class_row(name, scored, swatches.get(name)) for name in names)
    score = metric(scored).removeprefix("m")
    table = f'<thead><tr><th scope="col">Class</th>{heads}</tr></thead><tbody>{rows}</tbody>'
    return (
        '<details class="fold"><summary>Class by class</summary><p>'
        f"{score} of each engine in points. Tinted: two"
        f" points or more below the row's median.</p>{scroll(f'{score} by class', 'classes', table)}</details>"
    )


def _class_row(name: str, runs: Sequence[Run], color: Color | None) -> str:
    values = [figure(run, "parity", "per_class", name) for run in runs]
    middle = median([v for v in values if v is not None] or [0.0])
    looks = ["figure low" if v is not None and middle - v >= LOW else "figure" for v in values]
    cells = "".join(f'<td class="{look}">{number(v, 1)}</td>' for v, look in zip(values, looks, strict=True))
    return f'<tr><th scope="row">{swatch(color)}{escape(name)}</th>{cells}</tr>'


def swatch(color: Color | None) -> str:
    return f'<i class="swatch" style="background:rgb{color}"></i>' if color else ""
