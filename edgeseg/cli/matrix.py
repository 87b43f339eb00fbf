"""``edgeseg matrix``: networks × targets × precisions, in one table and one report."""

from __future__ import annotations

import json as encoding
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeseg.cli._options import parse_size
from edgeseg.cli._output import finite, number, print_json, print_table
from edgeseg.cli._packages import usable_targets
from edgeseg.cli._progress import progress
from edgeseg.errors import CheckFailed
from edgeseg.spec import PRECISIONS

COLUMNS = (
    "network", "target", "precision", "SQNR\ndB", "agreement\n%", "metric\nPyTorch", "metric\nengine", "p50\nms", "FPS",
    "size\nMB", "result",
)  # fmt: skip


def matrix(
    model: Annotated[list[str], typer.Argument(metavar="MODEL[:VARIANT]...", help="Networks of `edgeseg models`.")],
    data: Annotated[str, typer.Option(metavar="SPEC", help="What engines are compared on: KIND:PATH[:SPLIT].")],
    calibration: Annotated[
        str | None, typer.Option(metavar="SPEC", help="Images to calibrate int8 on; those of --data by default.")
    ] = None,
    target: Annotated[list[str] | None, typer.Option(help="Repeatable; all that run here by default.")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="Repeatable; all by default.")] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            help="The networks' input; by default the images' where weights are packaged, else each one's own.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many images.")] = None,
    seconds: Annotated[float, typer.Option(help="How long to time each engine.")] = 3.0,
    out: Annotated[Path, typer.Option(help="Folder that receives everything.")] = Path("matrix"),
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Measure on every board of this Ray cluster: HOST:PORT, auto or local."),
    ] = None,
    board: Annotated[
        list[str] | None, typer.Option(help="With --ray: only boards of these names (resources); repeatable.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Build, compare and time every combination; one that was stopped goes on where it was.

    Networks without packaged weights take random ones: their engines are held to PyTorch by the logits' SQNR.
    """
    from edgeseg.benchmarks.matrix import MatrixRequest, run_matrix
    from edgeseg.benchmarks.report import write_report
    from edgeseg.benchmarks.tables import write_tables

    request = MatrixRequest(
        models=tuple(model),
        targets=tuple(target or usable_targets()),
        precisions=tuple(precision or PRECISIONS),
        data=data,
        calibration=calibration or data,
        out=out,
        size=parse_size(size, "--size"),
        limit=limit,
        seconds=seconds,
    )
    with progress() as bars:
        if ray is None:
            runs = run_matrix(request, bars)
        else:
            from edgeseg.benchmarks.matrix_ray import run_on_boards

            runs = run_on_boards(request, ray, board or (), bars)
    (out / "results.json").write_text(encoding.dumps(finite({"schema": 1, "runs": runs}), indent=2), encoding="utf-8")
    write_tables(runs, out)
    write_report([run for run in runs if "error" not in run] or runs, [], out / "report.html")
    if json:
        print_json(runs=runs)
    else:
        print_table(f"Matrix on {data}", COLUMNS, map(_row, runs))
    if failed := [run for run in runs if "error" in run or run["parity"]["passed"] is False]:
        raise CheckFailed(f"{len(failed)} of {len(runs)} cells failed; their reasons stand in {out / 'results.json'}")


def _row(run: dict[str, Any]) -> list[str]:
    identity = [f"{run.get('board', '')} {run['model']} {run['variant']}".strip(), run["target"], run["precision"]]
    if "error" in run:
        return [*identity, *["–"] * 7, run["error"]]
    found = run["parity"]
    return [
        *identity,
        number(found.get("sqnr_db")),
        number(100 * found["agreement"], ".2f"),
        *(number(found.get(key) if run["trained"] else None, ".2f") for key in ("reference", "engine")),
        number(run["latency_ms"]["p50"], ".2f"),
        number(run["fps"]),
        number(run["size_mb"], ".2f"),
        {True: "passed", False: "FAILED", None: "no gate: untrained"}[found["passed"]],
    ]
