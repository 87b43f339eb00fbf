"""``edgeseg bench``: how fast an engine answers on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgeseg.cli._output import number, print_json, print_table
from edgeseg.cli._progress import progress
from edgeseg.cli._runs import identity

COLUMNS = (
    "artifact", "p50\nms", "p90\nms", "p99\nms", "FPS", "throughput\nFPS", "before + inside + after\nms",
    "memory\nMB", "size\nMB", "valid",
)  # fmt: skip


def bench(
    artifact: Annotated[list[Path], typer.Argument(help="Artifact folders.")],
    seconds: Annotated[float, typer.Option(help="How long to measure each.")] = 3.0,
    threads: Annotated[int | None, typer.Option(help="Threads an engine may use; its own choice by default.")] = None,
    crf: Annotated[bool, typer.Option("--crf", help="Refine logits by DeepLab's CRF, as the last stage.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure latency, frames per second, memory and size, each engine in a process of its own."""
    from edgeseg.benchmarks import latency

    with progress() as bars:
        runs = [
            {**identity(path), **latency.bench(path, seconds=seconds, threads=threads, crf=crf, progress=bars)}
            for path in artifact
        ]
    if json:
        print_json(runs=runs)
        return
    print_table("Latency of one frame", COLUMNS, map(_row, runs))
    for run in runs:
        if not run["validity"]["valid"]:
            print(f"{Path(run['artifact']).name}: {'; '.join(run['validity']['reasons'])}")


def _row(run: dict[str, Any]) -> list[str]:
    times, stages = run["latency_ms"], run["stages_ms"]
    return [
        Path(run["artifact"]).name,
        *(number(times[key], ".2f") for key in ("p50", "p90", "p99")),
        number(run["fps"]),
        number(run["throughput_fps"]),
        " + ".join(number(stages[key], ".2f") for key in ("preprocess", "infer", "postprocess")),
        number(run["peak_memory_mb"], ".0f"),
        number(run["size_mb"], ".2f"),
        "yes" if run["validity"]["valid"] else "no",
    ]
