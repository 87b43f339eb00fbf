"""What commands print on stdout: one JSON document, or tables."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

SCHEMA = 1
NUMBER = re.compile(r"[-–]?[\d.,]*|-?inf")
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


def print_table(title: str, columns: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """Text to the left, numbers to the right."""
    cells = [*rows]
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    table = Table()
    for position, column in enumerate(columns):
        numeric = all(NUMBER.fullmatch(row[position]) for row in cells)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*map(escape, row))
    console.print(title, markup=False, highlight=False, style="bold")
    console.print(table)


def number(value: float | None, form: str = ".1f") -> str:
    """``value`` in ``form``, without a minus before zero; – where there is none."""
    if value is None or math.isnan(value):
        return "–"
    text = format(value, form)
    return text if float(text) else text.lstrip("-")
