"""``edgeseg train``: the plain trainer that made the packaged weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    model: Annotated[str, typer.Argument(help="A network of `edgeseg models`.")],
    data: Annotated[
        str, typer.Option(metavar="SPEC", help="Images with labels to learn from: KIND:PATH[:SPLIT].")
    ],
) -> None:
    """Train."""
