"""``edgeseg models``: the reference networks."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from edgeseg.cli._output import print_json, print_table
from edgeseg.spec import ModelSpec


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
    """A row for each variant; parameters and GMACs are the first's, at the paper's input."""
    rows = []
    for variant in spec.variants:
        size = f"{spec.variants[0].size[0]}x{spec.variants[0].size[1]}"
        cost = [f"{spec.parameters:,}", f"{spec.gmacs:.2f}", size] if variant is spec.variants[0] else ["", "", ""]
        rows.append([spec.name, variant.name, spec.task, *cost, variant.paper, variant.published])
    return rows
