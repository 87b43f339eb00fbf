"""What commands print on stdout: one JSON document, or tables."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

SCHEMA = 1
LOG_WIDTH = 160  # columns where stdout is no terminal


def print_json(**content: Any) -> None:
    """One JSON document ``{"schema": 1, …}``; numbers that are not finite become null."""
    print(json.dumps(finite({"schema": SCHEMA, **content}), indent=2, ensure_ascii=False, allow_nan=False))


def finite(value: Any) -> Any:
    """``value`` with null for numbers that JSON has no word for."""
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """The first column to the left, the others to the right."""
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False)


def number(value: float | None, form: str = ".1f") -> str:
    """``value`` in ``form``; – where there is none."""
    return "–" if value is None or math.isnan(value) else format(value, form)
