"""How the figures were taken: machine, state, versions, and what each figure means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from edgeseg.benchmarks.report_page.text import (
    ABSENT,
    Run,
    dig,
    digits_for,
    escape,
    figure,
    name,
    number,
    scroll,
)

MEANINGS = (
    ("mIoU", "mean intersection over union with the ground truth, in points of 100"),
    ("AP", "COCO's average precision of the boxes, AP@[.5:.95], in points of 100"),
    ("Drop", "points of mIoU or AP that the engine loses against PyTorch; negative is a gain"),
    ("Agree", "share of pixels of the same class in engine and PyTorch; of PyTorch's objects that the engine sees"),
    ("Quantization", "the quantized graph in exact arithmetic against PyTorch"),
    ("Engine error", "the engine against that graph"),
    ("p50, p90, p99", "percentiles of a frame's whole call in one stream, frame in to labels out"),
    ("FPS", "1000 / p50; throughput is frames over the whole time of the same stream"),
    ("p99 at most", "what p99 stays under with 99 % confidence (MLPerf's early stopping); – of fewer than 662 frames"),
    ("jitter", "mean step from one frame's time to the next"),
    ("frame to answer", "the three stages as one call; cold start is from opening the artifact to the first answer"),
    ("offline", "frames a second, all streams of the target at work; 8 frames: MLPerf's multi-stream query"),
    ("MB", "10⁶ bytes; memory is the growth of the process's peak, the runtime's libraries included"),
    ("≈", "the machine was disturbed while this was timed: read it as an estimate"),
)  # fmt: skip


MORE = {
    "frames": ("latency_ms", "n"),
    "mean ms": ("latency_ms", "mean"),
    "p90 ms": ("latency_ms", "p90"),
    "p95 ms": ("latency_ms", "p95"),
    "p99 at most": ("latency_ms", "at_most", "p99"),
    "jitter ms": ("latency_ms", "jitter"),
    "frame to answer ms": ("frame_to_answer_ms", "p50"),
    "cold start ms": ("cold_start_ms", "total"),
    "8 frames p99 ms": ("scenarios", "multi-stream", "latency_ms", "p99"),
    "peak W": ("energy", "peak_w"),
    "throughput FPS": ("throughput_fps",),
    "before ms": ("stages_ms", "preprocess"),
    "infer ms": ("stages_ms", "infer"),
    "after ms": ("stages_ms", "postprocess"),
    "memory MB": ("peak_memory_mb",),
    "steady MB": ("steady_memory_mb",),
    "GFLOP/s": ("roofline", "gflops"),
    "of the ceiling": ("roofline", "share"),
    "GB/s at least": ("roofline", "gb_per_s"),
    "SQNR dB": ("parity", "sqnr_db"),
}


def section(runs: Sequence[Run]) -> str:
    """All of it, folded."""
    parts = [_more(runs), _states(runs), _machines(runs), _versions(runs), _meanings()]
    return f'<details class="fold"><summary>How this was measured</summary>{"".join(parts)}</details>'


def _more(runs: Sequence[Run]) -> str:
    values = [[figure(run, *path) for path in MORE.values()] for run in runs]
    digits = [digits_for(column) for column in zip(*values, strict=True)]
    rows = [[number(v, d) for v, d in zip(row, digits, strict=True)] for row in values]
    return _table("More figures", MORE, runs, rows)


def _states(runs: Sequence[Run]) -> str:
    stamped = [run for run in runs if dig(run, "validity")]
    heads = (
        "threads",
        "load before",
        "load after",
        "other work",
        "hypervisor",
        "drift",
        "taken (UTC)",
        "timing",
    )
    return _table("State of the machine", heads, stamped, [_state(run) for run in stamped])


def _state(run: Run) -> list[str]:
    reasons = "; ".join(str(reason) for reason in dig(run, "validity", "reasons") or ())
    threads = dig(run, "validity", "threads")
    return [
        "the target's choice" if threads is None else str(threads),
        number(figure(run, "validity", "load_average", "before"), 2),
        number(figure(run, "validity", "load_average", "after"), 2),
        _share(run, "other_work", "processes"),
        _share(run, "other_work", "hypervisor"),
        _share(run, "drift"),
        str(dig(run, "validity", "utc") or ABSENT).removesuffix("+00:00").replace("T", " "),
        "undisturbed" if dig(run, "validity", "valid") else f"disturbed: {reasons}",
    ]


def _share(run: Run, *keys: str) -> str:
    value = figure(run, "validity", *keys)
    return ABSENT if value is None else f"{number(100 * value, 0)}\N{THIN SPACE}%"


def _table(title: str, heads: Iterable[str], runs: Sequence[Run], rows: Sequence[Sequence[str]]) -> str:
    if not runs:
        return ""
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(name(run))}</th>{_cells(row)}</tr>' for run, row in zip(runs, rows, strict=True)
    )
    table = f'<thead><tr><th scope="col">Engine</th>{head}</tr></thead><tbody>{body}</tbody>'
    return f"<h3>{title}</h3>{scroll(title, 'plain', table)}"


def _cells(row: Sequence[str]) -> str:
    return "".join(f"<td>{escape(cell)}</td>" for cell in row)


def _machines(runs: Sequence[Run]) -> str:
    keys = ("cpu", "python", "platform")
    found = {json.dumps([dig(run, "validity", k) for k in keys]): run for run in runs if dig(run, "validity")}
    return "".join(f"<h3>Machine</h3><dl>{_terms(_machine(run))}</dl>" for run in found.values())


def _machine(run: Run) -> list[tuple[str, str]]:
    flags = dig(run, "validity", "cpu", "flags")
    low, high = (number(figure(run, "validity", "cpu", key), 0) for key in ("min_mhz", "max_mhz"))
    heat = dig(run, "validity", "temperatures_c", "after") or {}
    return [
        ("CPU", _known(run, "cpu", "model")),
        ("Board", _known(run, "cpu", "board")),
        ("Cores", f"{_known(run, 'cpu', 'usable_cores')} usable of {_known(run, 'cpu', 'cores')}"),
        ("Flags", "unknown" if flags is None else ", ".join(map(str, flags)) or "none of note"),
        ("Governor", _known(run, "cpu", "governor")),
        ("Clock limits", "unknown" if (low, high) == (ABSENT, ABSENT) else f"{low} to {high} MHz"),
        ("Temperatures after", ", ".join(f"{k} {v:.0f} °C" for k, v in heat.items()) or "unknown"),
        ("Python", _known(run, "python")),
        ("System", _known(run, "platform")),
    ]


def _known(run: Run, *keys: str) -> str:
    value = dig(run, "validity", *keys)
    return "unknown" if value is None else str(value)


def _versions(runs: Sequence[Run]) -> str:
    pairs = {
        (str(package), str(dig(entry, "built") or ABSENT), str(dig(entry, "installed") or "not installed"))
        for run in runs
        for package, entry in (dig(run, "validity", "toolchain") or {}).items()
    }
    terms = [(p, built if built == here else f"built with {built}, here {here}") for p, built, here in sorted(pairs)]
    return f"<h3>Versions</h3><dl>{_terms(terms)}</dl>" if terms else ""


def _meanings() -> str:
    return f"<h3>What the figures mean</h3><dl>{_terms(MEANINGS)}</dl>"


def _terms(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<div><dt>{escape(term)}</dt><dd>{escape(meaning)}</dd></div>" for term, meaning in pairs)
