"""How the frames of each engine are spread, where the time goes, what clocks and heat did, as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeseg.benchmarks.report_page.text import Run, dig, digits_for, escape, figure, name, number

WIDTH, HEIGHT, LEFT = 350, 132, 8
STAGES = ("preprocess", "infer", "postprocess")
Point = tuple[float, float]


def section(runs: Sequence[Run]) -> str:
    """Histograms, stages, series; empty where no run has any."""
    parts = [
        _part("How the frames are spread", "Frames by their time; the last bar holds what lies beyond p99.9.",
              _each(runs, _histogram)),
        _part("Where the time goes", "Medians of the stages. Resizing, normalisation and labels are inside the graph.",
              _stages(runs)),
        _part("Clocks and heat", "Before, during (between the two lines) and after each measurement.",
              _each(runs, _series)),
    ]  # fmt: skip
    return "".join(parts)


def _part(title: str, words: str, drawn: str) -> str:
    return f"<section><h2>{title}</h2><p>{words}</p>{drawn}</section>" if drawn else ""


def _each(runs: Sequence[Run], draw: Callable[[Run, str], str]) -> str:
    figures = "".join(draw(run, _title(run, runs)) for run in runs)
    return f'<div class="smalls">{figures}</div>' if figures else ""


def _title(run: Run, runs: Sequence[Run]) -> str:
    several = len({str(dig(r, "model")) for r in runs}) > 1
    return f"{dig(run, 'model')} {name(run)}" if several else name(run)


def _picture(title: str, what: str, inside: str, note: str) -> str:
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(what)} of {escape(title)}">'
        f"{inside}</svg><figcaption><b>{escape(title)}</b> {escape(note)}</figcaption></figure>"
    )


def _histogram(run: Run, title: str) -> str:
    edges, counts = _numbers(dig(run, "histogram", "edges_ms")), _numbers(dig(run, "histogram", "counts"))
    if len(edges) < 2 or len(edges) != len(counts) + 1 or not max(counts) or not edges[-1] > edges[0]:
        return ""
    span, floor = edges[-1] - edges[0], HEIGHT - 22

    def across(ms: float) -> float:
        return LEFT + (WIDTH - 2 * LEFT) * (ms - edges[0]) / span

    bars = "".join(
        f'<rect x="{across(a):.1f}" y="{floor - h:.1f}" width="{max(across(b) - across(a) - 0.6, 0.6):.1f}" '
        f'height="{h:.1f}"/>'
        for a, b, count in zip(edges, edges[1:], counts, strict=False)
        if (h := (floor - 6) * count / max(counts))
    )
    digits = digits_for(edges)
    ends = _text(LEFT, number(edges[0], digits), "start") + _text(WIDTH - LEFT, number(edges[-1], digits), "end")
    marks = "".join(
        f'<path class="reference" d="M{across(v):.1f} 6V{floor}"/>'
        for key in ("p50", "p99")
        if (v := figure(run, "latency_ms", key)) is not None and edges[0] <= v <= edges[-1]
    )
    note = f"p50 {_ms(run, 'p50')}, p99 {_ms(run, 'p99')}, p99.9 {_ms(run, 'p999')} ms, jitter {_ms(run, 'jitter')} ms"
    return _picture(title, "histogram of frame times", f'<g class="bars">{bars}</g>{marks}{ends}', note)


def _ms(run: Run, key: str) -> str:
    value = figure(run, "latency_ms", key)
    return number(value, digits_for([value]))


def _text(x: float, words: str, anchor: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{escape(words)}</text>'


def _stages(runs: Sequence[Run]) -> str:
    staged = [(run, [figure(run, "stages_ms", stage) for stage in STAGES]) for run in runs]
    known = [(run, [v or 0.0 for v in values]) for run, values in staged if any(values)]
    most = max((sum(values) for _, values in known), default=0.0)
    rows = "".join(
        f'<li><span>{escape(_title(run, runs))}</span><span class="stage">'
        + "".join(f'<i class="c{i}" style="--share:{v / most:.4f}"></i>' for i, v in enumerate(values))
        + f"</span><span>{' + '.join(number(v, digits_for([v])) for v in values)} ms</span></li>"
        for run, values in known
    )
    keys = "".join(f'<li><i class="dot c{i}"></i>{stage}</li>' for i, stage in enumerate(STAGES))
    return f'<ul class="legend">{keys}</ul><ul class="stages">{rows}</ul>' if rows else ""


def _series(run: Run, title: str) -> str:
    seconds = _numbers(dig(run, "series", "seconds"))
    lines = [*_lines(run, "clocks_mhz", "MHz"), *_lines(run, "temperatures_c", "°C")]
    drawn = [(label, unit, values) for label, unit, values in lines if any(v is not None for v in values)]
    if len(seconds) < 2 or not drawn or not seconds[-1] > seconds[0]:
        return ""

    def across(s: float) -> float:
        return LEFT + (WIDTH - 2 * LEFT) * (s - seconds[0]) / (seconds[-1] - seconds[0])

    paths, notes = [], []
    for index, (label, unit, values) in enumerate(drawn):
        known = [(s, v) for s, v in zip(seconds, values, strict=False) if v is not None]
        low, high = min(v for _, v in known), max(v for _, v in known)
        # Each on its own scale from zero: what matters is whether it moved.
        points = [(across(s), HEIGHT - 22 - (HEIGHT - 34) * max(v, 0) / max(high, 1e-9)) for s, v in known]
        steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        paths.append(f'<path class="line c{index % 6}" d="M{steps}"/>')
        notes.append(f"{label} {low:.0f} to {high:.0f} {unit}")
    window = _numbers(dig(run, "series", "window"))
    marks = "".join(f'<path class="reference" d="M{across(s):.1f} 6V{HEIGHT - 22}"/>' for s in window)
    ends = _text(LEFT, f"{seconds[0]:.0f} s", "start") + _text(WIDTH - LEFT, f"{seconds[-1]:.0f} s", "end")
    return _picture(title, "clocks and temperatures", "".join(paths) + marks + ends, ", ".join(notes))


def _lines(run: Run, part: str, unit: str) -> list[tuple[str, str, list[float | None]]]:
    found = dig(run, "series", part) or {}
    return [
        (str(label), unit, [float(v) if isinstance(v, int | float) else None for v in values])
        for label, values in found.items()
    ]


def _numbers(values: object) -> list[float]:
    return [float(v) for v in values if isinstance(v, int | float)] if isinstance(values, list) else []
