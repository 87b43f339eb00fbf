"""The runs as CSV and as Markdown, beside ``report.html``: a row a run, the same columns in both."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeseg.artifact import write_whole
from edgeseg.benchmarks.report_page.text import ABSENT, Run, dig

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "board": ("board",), "model": ("model",), "variant": ("variant",), "target": ("target",),
    "precision": ("precision",),
    "metric": ("parity", "metric"), "reference": ("parity", "reference"), "engine": ("parity", "engine"),
    "drop": ("parity", "drop"), "agreement": ("parity", "agreement"), "passed": ("parity", "passed"),
    "p50_ms": ("latency_ms", "p50"), "p90_ms": ("latency_ms", "p90"), "p95_ms": ("latency_ms", "p95"),
    "p99_ms": ("latency_ms", "p99"), "p999_ms": ("latency_ms", "p999"), "jitter_ms": ("latency_ms", "jitter"),
    "frames": ("latency_ms", "n"), "fps": ("fps",), "throughput_fps": ("throughput_fps",),
    "offline_fps": ("scenarios", "offline", "throughput_fps"),
    "multi_stream_p99_ms": ("scenarios", "multi-stream", "latency_ms", "p99"),
    "preprocess_ms": ("stages_ms", "preprocess"), "postprocess_ms": ("stages_ms", "postprocess"),
    "frame_to_answer_ms": ("frame_to_answer_ms", "p50"), "cold_start_ms": ("cold_start_ms", "total"),
    "peak_memory_mb": ("peak_memory_mb",), "steady_memory_mb": ("steady_memory_mb",), "size_mb": ("size_mb",),
    "energy_mj_per_frame": ("energy_mj_per_frame",), "average_w": ("energy", "average_w"),
    "peak_w": ("energy", "peak_w"), "gflops": ("roofline", "gflops"), "gb_per_s": ("roofline", "gb_per_s"),
    "valid": ("validity", "valid"), "error": ("error",),
}  # fmt: skip


def columns(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Values by column, of those columns that some run has."""
    found = {head: [dig(run, *path) for run in runs] for head, path in COLUMNS.items()}
    return {head: values for head, values in found.items() if any(v not in (None, "") for v in values)}


def to_csv(runs: Sequence[Run]) -> str:
    """Comma-separated, full precision; absent values are empty."""
    found, out = columns(runs), io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(found)
    writer.writerows(zip(*found.values(), strict=True))
    return out.getvalue()


def to_markdown(runs: Sequence[Run]) -> str:
    """A table with four significant digits."""
    found = columns(runs)
    rows = [list(found), ["---"] * len(found), *([_word(v) for v in row] for row in zip(*found.values(), strict=True))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _word(value: Any) -> str:
    if value is None or value == "":
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/").replace("\n", " ")


def write_tables(runs: Sequence[Run], folder: Path) -> None:
    """``results.csv`` and ``results.md`` in ``folder``, each whole."""
    forms: tuple[tuple[str, Callable[[Sequence[Run]], str]], ...] = (("csv", to_csv), ("md", to_markdown))
    for ending, form in forms:
        write_whole(folder / f"results.{ending}", form(runs))
