"""``edgeseg bench``: how fast an engine answers on this machine."""

from __future__ import annotations

import json as encoding
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeseg.artifact import load, write_whole
from edgeseg.cli._output import finite, number, print_json, print_table
from edgeseg.cli._progress import progress
from edgeseg.cli._runs import identity
from edgeseg.cli.compare import gate, show
from edgeseg.errors import InputError

COLUMNS = (
    "artifact", "p50\nms", "p90\nms", "p99\nms", "p99.9\nms", "jitter\nms", "FPS", "throughput\nFPS",
    "before + inside + after\nms", "cold\nms", "memory\nMB", "size\nMB", "mJ a\nframe", "valid",
)  # fmt: skip
IDLE_S = 3.0


def bench(
    artifact: Annotated[list[Path], typer.Argument(help="Artifact folders.")],
    seconds: Annotated[float | None, typer.Option(help="How long to measure each; 10, or 3 with --quick.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Too few frames for a sure p99; for development.")] = False,
    scenario: Annotated[
        list[str] | None, typer.Option(help="Besides single-stream: multi-stream, offline; repeatable.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads an engine may use; its own choice by default.")] = None,
    crf: Annotated[bool, typer.Option("--crf", help="Refine logits by DeepLab's CRF, as the last stage.")] = False,
    power: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Measure energy: auto, ina, tegrastats, nvml, rapl, csv:FILE.")
    ] = None,
    idle: Annotated[bool, typer.Option("--idle", help="Take the power at rest off the energy.")] = False,
    lock_clocks: Annotated[
        bool, typer.Option("--lock-clocks", help="Hold clocks at their highest meanwhile (root); restored after.")
    ] = False,
    roofline: Annotated[
        bool, typer.Option("--roofline", help="Also this machine's GFLOP/s and GB/s, and how near engines come.")
    ] = False,
    baseline: Annotated[Path | None, typer.Option(metavar="FILE", help="Exit 1 when slower than these runs.")] = None,
    tolerance: Annotated[float, typer.Option(help="Share by which they may be slower.")] = 0.05,
    unlike: Annotated[bool, typer.Option("--unlike", help="Compare although stamps differ or are not valid.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for results.json, results.csv, results.md, report.html.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure latency, frames per second, memory, size and energy, each engine in a process of its own."""
    from edgeseg.benchmarks import latency
    from edgeseg.benchmarks.compare import compare, read_runs
    from edgeseg.benchmarks.figures import P99_FRAMES
    from edgeseg.benchmarks.lock_clocks import locked
    from edgeseg.benchmarks.power import open_meter
    from edgeseg.benchmarks.roofline import against, ceilings

    if idle and power is None:
        raise InputError("--idle is for energy: give --power too")
    before = None if baseline is None else read_runs(baseline)
    identities = [identity(path) for path in artifact]  # a wrong path is told before time is spent on the others
    lasting = (3.0 if quick else 10.0) if seconds is None else seconds
    least = latency.LEAST_FRAMES if quick else P99_FRAMES
    with ExitStack() as stack:
        bars = stack.enter_context(progress())
        if lock_clocks:
            stack.enter_context(locked())
        machine = ceilings() if roofline else None
        meter = None if power is None else stack.enter_context(open_meter(None if power == "auto" else power))
        rest = meter.idle(IDLE_S) if meter and idle else None
        runs = [
            {
                **known,
                **latency.bench(
                    path, seconds=lasting, threads=threads, crf=crf, least=least, also=scenario or (), meter=meter,
                    idle=rest, progress=bars,
                ),
            }
            for path, known in zip(artifact, identities, strict=True)
        ]  # fmt: skip
    if machine is not None:
        for path, run in zip(artifact, runs, strict=True):
            run["roofline"] = against(run, load(path).manifest, machine)
    found = None if before is None else compare(before, runs, tolerance=tolerance, unlike=unlike)
    if out is not None:
        _keep(runs, out)
    if json:
        print_json(runs=runs, **({} if found is None else {"comparisons": [c.json() for c in found]}))
        gate(found or [], tolerance)
        return
    print_table("Latency of one frame", COLUMNS, map(_row, runs))
    _scenarios(runs)
    _rooflines(runs)
    for run in runs:
        for reason in (*run["validity"]["reasons"], *run.get("energy", {}).get("reasons", ())):
            print(f"{Path(run['artifact']).name}: {reason}")
    if found is not None:
        show(found, tolerance, False)


def _keep(runs: list[dict[str, Any]], out: Path) -> None:
    from edgeseg.benchmarks.report import write_report
    from edgeseg.benchmarks.tables import write_tables

    write_whole(out / "results.json", encoding.dumps(finite({"schema": 1, "runs": runs}), indent=1) + "\n")
    write_tables(runs, out)
    write_report(runs, [], out / "report.html")


def _row(run: dict[str, Any]) -> list[str]:
    times, stages = run["latency_ms"], run["stages_ms"]
    return [
        Path(run["artifact"]).name,
        *(number(times[key], ".2f") for key in ("p50", "p90", "p99", "p999", "jitter")),
        number(run["fps"]),
        number(run["throughput_fps"]),
        " + ".join(number(stages[key], ".2f") for key in ("preprocess", "infer", "postprocess")),
        number(run["cold_start_ms"]["total"], ".0f"),
        number(run["peak_memory_mb"], ".0f"),
        number(run["size_mb"], ".2f"),
        number(run.get("energy_mj_per_frame"), ".2f"),
        "yes" if run["validity"]["valid"] else "no",
    ]


def _rooflines(runs: list[dict[str, Any]]) -> None:
    keys = ("gflops", "ceiling_gflops", "gb_per_s", "ceiling_gb_per_s", "share")
    rows = [
        [Path(r["artifact"]).name, *(number(r["roofline"][k], ".2f") for k in keys)] for r in runs if "roofline" in r
    ]
    if rows:
        heads = ("artifact", "GFLOP/s", "ceiling", "GB/s\nat least", "ceiling", "share of\nthe roof")
        print_table("Roofline", heads, rows)


def _scenarios(runs: list[dict[str, Any]]) -> None:
    rows = [
        [
            Path(run["artifact"]).name, name, found["how"], number(found["throughput_fps"]),
            number(found.get("latency_ms", {}).get("p99"), ".2f"),
        ]
        for run in runs for name, found in run.get("scenarios", {}).items()
    ]  # fmt: skip
    if rows:
        print_table("Many frames at once", ("artifact", "scenario", "streams", "FPS", "p99 of a query\nms"), rows)
