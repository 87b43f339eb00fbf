"""``edgeseg models``: the reference networks."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from edgeseg.cli._output import print_json, print_table
from edgeseg.spec import ModelSpec, Variant


def models(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """The reference networks: task, size, cost, paper, published accuracy."""
    from edgeseg.models import names, spec

    specs = [spec(name) for name in names()]
    if json:
        print_json(models=[asdict(s) for s in specs])
        return
    columns = "model", "variant", "task", "parameters", "GMACs", "at", "paper", "published"
    print_table("Reference networks", columns, (row for s in specs for row in _rows(s)))


def _rows(spec: ModelSpec) -> list[list[str]]:
    return [_row(spec, variant) for variant in spec.variants]


def _row(spec: ModelSpec, v: Variant) -> list[str]:
    cost = [f"{v.parameters / 1e6:.2f} M", f"{v.gmacs:.2f}", f"{v.size[0]}x{v.size[1]}"]
    return [spec.name, v.name, spec.task, *cost, v.paper, v.published]
