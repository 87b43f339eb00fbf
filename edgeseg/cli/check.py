"""``edgeseg check``: does the engine see what the network sees?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgeseg.cli._output import number, print_json, print_table
from edgeseg.cli._progress import progress
from edgeseg.cli._runs import identity
from edgeseg.errors import CheckFailed
from edgeseg.metrics import TITLES

COLUMNS = (
    "artifact", "images", "{0}\nPyTorch", "{0}\nengine", "drop", "agreement\n%", "SQNR\ndB",
    "quantization\nloss", "engine\nerror", "gate",
)  # fmt: skip


def check(
    artifact: Annotated[list[Path], typer.Argument(help="Artifact folders.")],
    data: Annotated[str, typer.Option(metavar="SPEC", help="Images with labels: KIND:PATH[:SPLIT].")],
    limit: Annotated[int | None, typer.Option(help="At most so many images, spread over all.")] = None,
    weights: Annotated[Path | None, typer.Option(help="The checkpoint, where it has moved.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare engines with the PyTorch network on real images; exit status 1 where one is over the gate."""
    from edgeseg.benchmarks import parity
    from edgeseg.datasets import open_dataset

    dataset, answers = open_dataset(data), parity.Answers()
    with progress() as bars:
        runs = [
            {
                **identity(path),
                "parity": parity.check(
                    path, dataset, limit=limit, weights=weights, progress=bars, answers=answers
                ).to_json(),
            }
            for path in artifact
        ]
    if json:
        print_json(runs=runs)
    else:
        metric = " or ".join(sorted({TITLES[run["parity"]["metric"]] for run in runs}))
        columns = [column.format(metric) for column in COLUMNS]
        print_table(f"Parity on {data}, {metric} and losses in points", columns, map(_row, runs))
    if failed := [run["artifact"] for run in runs if not run["parity"]["passed"]]:
        raise CheckFailed(f"{len(failed)} of {len(runs)} artifacts over the gate: {', '.join(failed)}")


def _row(run: dict[str, Any]) -> list[str]:
    found = run["parity"]
    points = [number(found.get(key), ".2f") for key in ("reference", "engine")]
    drop = number(found.get("drop"), ".2f") + (f" ± {error:.2f}" if (error := found.get("drop_error")) else "")
    losses = [number(found.get(key, {}).get("drop"), ".2f") for key in ("quantization", "engine_error")]
    return [
        Path(run["artifact"]).name,
        str(found["images"]),
        *points,
        drop,
        number(100 * found["agreement"], ".3f"),
        number(found.get("sqnr_db")),
        *losses,
        "passed" if found["passed"] else "FAILED",
    ]
