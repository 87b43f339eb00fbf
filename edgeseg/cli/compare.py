"""``edgeseg compare``: whether the second measurement is slower than the first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli._output import number, print_json, print_table
from edgeseg.errors import CheckFailed

if TYPE_CHECKING:
    from edgeseg.benchmarks.compare import Comparison

COLUMNS = ("engine", "first\nms", "second\nms", "ratio", "95 % from", "to", "verdict")


def compare(
    first: Annotated[Path, typer.Argument(metavar="A.json", help="From `bench --json` or `matrix`.")],
    second: Annotated[Path, typer.Argument(metavar="B.json", help="The same, later.")],
    tolerance: Annotated[float, typer.Option(help="Share by which the second may be slower.")] = 0.05,
    unlike: Annotated[bool, typer.Option("--unlike", help="Compare although stamps differ or are not valid.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two measurements by the ratio of their medians; exit 1 when the second is surely slower."""
    from edgeseg.benchmarks.compare import compare as compared
    from edgeseg.benchmarks.compare import read_runs

    show(compared(read_runs(first), read_runs(second), tolerance=tolerance, unlike=unlike), tolerance, json)


def show(found: Sequence[Comparison], tolerance: float, json: bool) -> None:
    """Print them, and raise CheckFailed where one is slower."""
    if json:
        print_json(tolerance=tolerance, comparisons=[c.json() for c in found])
    else:
        print_table(f"Median frame, tolerance {tolerance:.0%}", COLUMNS, map(_row, found))
        for c in found:
            for note in (*c.versions, *c.unlike):
                print(f"{c.name}: {note}")
    gate(found, tolerance)


def gate(found: Sequence[Comparison], tolerance: float) -> None:
    if slower := [c.name for c in found if c.verdict == "slower"]:
        raise CheckFailed(f"slower by more than {tolerance:.0%}: {', '.join(slower)}")


def _row(c: Comparison) -> list[str]:
    times = [number(v, ".3f") for v in (c.first_ms, c.second_ms, c.ratio, c.low, c.high)]
    return [c.name, *times, "no difference" if c.verdict == "same" else c.verdict]
