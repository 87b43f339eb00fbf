"""``edgeseg demo``: the whole story on this machine, with what the package carries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeseg.artifact import write_whole
from edgeseg.cli._output import finite, number, print_table
from edgeseg.cli._packages import usable_targets
from edgeseg.cli._progress import progress
from edgeseg.cli._runs import identity
from edgeseg.errors import CheckFailed, InputError
from edgeseg.metrics import TITLES
from edgeseg.progress import Progress
from edgeseg.spec import PRECISIONS

if TYPE_CHECKING:
    from edgeseg.benchmarks.report import Overlay

FRAME = (240, 320)  # what the packaged weights were trained on
CALIBRATION, VALIDATION = "streets:64@240x320:train", "streets:32@240x320:val"
SECONDS = 1.5


def demo(
    model: Annotated[str, typer.Option(help="A network whose weights come with the package.")] = "enet",
    out: Annotated[Path, typer.Option(help="Folder that receives everything.")] = Path("demo"),
) -> None:
    """Build a network for every target and precision, prove it against PyTorch, time it, draw it."""
    from edgeseg.benchmarks.report import write_report
    from edgeseg.benchmarks.tables import write_tables
    from edgeseg.models import packaged, spec

    title = spec(model).title
    if model not in packaged():
        raise InputError(f"no weights of {model} come with the package: use one of {', '.join(packaged())}")
    with progress() as bars:
        paths = _build(model, out, bars)
        runs, overlays = _measure(paths, bars)
    write_whole(out / "results.json", json.dumps({"schema": 1, "runs": finite(runs)}, indent=2) + "\n")
    write_tables(runs, out)
    write_report(runs, overlays, out / "report.html")
    metric = TITLES[runs[0]["parity"]["metric"]]
    print_table(f"{title} on {VALIDATION}, {metric} and losses in points", _columns(metric), map(_row, runs))
    print(f"report: {out / 'report.html'}   figures: {out / 'results.json'}")
    if failed := [run["artifact"] for run in runs if not run["parity"]["passed"]]:
        raise CheckFailed(f"{len(failed)} of {len(runs)} artifacts over the gate: {', '.join(failed)}")


def _columns(metric: str) -> tuple[str, ...]:
    return (
        "target", "precision", metric, "drop", "agreement\n%", "quantization\nloss", "engine\nerror", "p50\nms",
        "p99\nms", "FPS", "size\nMB", "gate",
    )  # fmt: skip


def _build(model: str, out: Path, bars: Progress) -> list[Path]:
    from edgeseg.export import BuildRequest, build
    from edgeseg.models import packaged_size

    request = BuildRequest(
        model=model,
        size=packaged_size(model, FRAME),
        frame=FRAME,
        targets=usable_targets(),
        precisions=PRECISIONS,
        data=CALIBRATION,
        out=out / "artifacts",
    )
    return build(request, bars)


def _measure(paths: list[Path], bars: Progress) -> tuple[list[dict[str, Any]], list[Overlay]]:
    """A run for each artifact, and a frame of each for the report."""
    from edgeseg.benchmarks import latency, parity
    from edgeseg.benchmarks.report import Overlay
    from edgeseg.datasets import open_dataset

    dataset, answers = open_dataset(VALIDATION), parity.Answers()
    runs, overlays = [], []
    with bars.task("prove and time", len(paths)) as done:
        for path in paths:
            found = parity.check(path, dataset, show=3, progress=bars, answers=answers)
            speed = latency.bench(path, seconds=SECONDS, progress=bars)
            runs.append({**identity(path), "parity": {**found.to_json(), "data": VALIDATION}, **speed})
            for s in found.shown:
                name = " ".join(path.name.split("-")[-2:])
                overlays.append(Overlay(s.title, s.frame, s.reference, s.engine, s.truth, dataset.classes, name))
            done()
    return runs, overlays


def _row(run: dict[str, Any]) -> list[str]:
    found, times = run["parity"], run["latency_ms"]
    return [
        run["target"],
        run["precision"],
        number(found.get("engine"), ".2f"),
        number(found.get("drop"), ".2f"),
        number(100 * found["agreement"], ".3f"),
        *(number(found.get(key, {}).get("drop"), ".2f") for key in ("quantization", "engine_error")),
        number(times["p50"], ".2f"),
        number(times["p99"], ".2f"),
        number(run["fps"]),
        number(run["size_mb"], ".2f"),
        "passed" if found["passed"] else "FAILED",
    ]
