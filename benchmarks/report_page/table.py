"""The table targets × precisions, and the table of classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgeseg.benchmarks.report_page.text import ABSENT, Run, dig, digits_for, escape, figure, number

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Column:
    """A column of figures: the ``group`` that heads it, its own ``head``, its value, a fixed number of decimals."""

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
    wanted = [
        Column("mIoU, points", "PyTorch", _at("parity", "reference"), 2),
        Column("mIoU, points", "Engine", _at("parity", "engine"), 2),
        Column("mIoU, points", "Drop", _at("parity", "drop"), 2),
        Column("Labels", "Agree %", _at("parity", "agreement", scale=100), 2),
        Column(f"int8 loss, {unit}", "Quantization", _at("parity", "quantization", cause, scale=scale), 2),
        Column(f"int8 loss, {unit}", "Engine error", _at("parity", "engine_error", cause, scale=scale), 2),
        Column("Latency, ms", "p50", _at("latency_ms", "p50"), bar=True),
        Column("Latency, ms", "p99", _at("latency_ms", "p99")),
        Column("Rate", "FPS", _at("fps")),
        Column("Files", "MB", _at("size_mb"), 2),
    ]
    return [column for column in wanted if any(column.value(run) is not None for run in runs)]


def matrix(runs: Sequence[Run], colors: Mapping[str, int]) -> str:
    """One row a run. ``colors`` gives each target its palette index."""
    shown = columns(runs)
    groups: list[tuple[str, int]] = []
    for column in shown:
        repeated = bool(groups) and groups[-1][0] == column.group
        groups = [*groups[:-1], (column.group, groups[-1][1] + 1)] if repeated else [*groups, (column.group, 1)]
    spans = "".join(f'<th colspan="{span}" scope="colgroup" class="group">{escape(g)}</th>' for g, span in groups)
    heads = "".join(f'<th scope="col" class="figure" data-sort>{escape(column.head)}</th>' for column in shown)
    rows = "".join(_row(run, cells, colors) for run, cells in zip(runs, _cells(runs, shown, colors), strict=True))
    return (
        '<div class="scroll" role="region" aria-label="Targets and precisions" tabindex="0"><table class="matrix" id="matrix">'
        f'<thead><tr><td colspan="2"></td>{spans}<td></td></tr>'
        '<tr><th scope="col" data-sort>Target</th><th scope="col" data-sort>Precision</th>'
        f'{heads}<th scope="col" data-sort>Gate</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


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
    return (
        f'<tr><th scope="row" data-value="{escape(target)}"><i class="dot c{colors.get(target, 0)}"></i>{escape(target)}</th>'
        f'<td data-value="{escape(precision)}">{escape(precision)}</td>{cells}{_badge(dig(run, "parity", "passed"))}</tr>'
    )


def _badge(passed: object) -> str:
    if passed is None:
        return f'<td data-value="">{ABSENT}</td>'
    word = "pass" if passed else "fail"
    return f'<td data-value="{word}"><span class="badge {word}">{word}</span></td>'


def per_class(runs: Sequence[Run], swatches: Mapping[str, Color]) -> str:
    """IoU of each class and engine, in points; empty where no run has them."""
    scored = [run for run in runs if dig(run, "parity", "per_class")]
    if not scored:
        return ""
    names = list(dict.fromkeys(name for run in scored for name in run["parity"]["per_class"]))
    heads = "".join(
        f'<th scope="col" class="figure">{escape(dig(run, "target"))}<br><b>{escape(dig(run, "precision"))}</b></th>'
        for run in scored
    )
    rows = "".join(_class_row(name, scored, swatches.get(name)) for name in names)
    return (
        '<details class="fold"><summary>Class by class</summary><p>IoU of each engine in points. Tinted: two points or'
        ' more below the best of the row.</p><div class="scroll" role="region" aria-label="IoU by class" tabindex="0">'
        f'<table class="classes"><thead><tr><th scope="col">Class</th>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        "</div></details>"
    )


def _class_row(name: str, runs: Sequence[Run], color: Color | None) -> str:
    values = [figure(run, "parity", "per_class", name) for run in runs]
    best = max((v for v in values if v is not None), default=0.0)
    cells = "".join(
        f'<td class="figure{" low" if value is not None and best - value >= 2 else ""}">{number(value, 1)}</td>'
        for value in values
    )
    return f'<tr><th scope="row">{swatch(color)}{escape(name)}</th>{cells}</tr>'


def swatch(color: Color | None) -> str:
    return f'<i class="swatch" style="background:rgb{color}"></i>' if color else ""
