"""Tables that a script writes into a document of ours."""

from __future__ import annotations

from collections.abc import Sequence

from edgeseg.errors import InputError


def marks(name: str) -> tuple[str, str]:
    """The two comments that a made part of a document stands between."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def insert(text: str, name: str, made: str) -> str:
    """``text`` with ``made`` between the marks of ``name``. Raises InputError where it has none."""
    opening, closing = marks(name)
    head, begin, rest = text.partition(opening)
    _, end, tail = rest.partition(closing)
    if not begin or not end:
        raise InputError(f"the file has no place for the table: put {opening} and {closing} where it belongs")
    return f"{head}{opening}\n{made}\n{closing}{tail}"


def rows(cells: Sequence[Sequence[str]]) -> str:
    """``cells``, of which the first row is the head, as a table."""
    lines = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
