"""Figures and words as the page prints them. All text that comes from runs passes ``escape``."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping
from typing import Any

from edgeseg.metrics import TITLES

ABSENT = "–"

Run = Mapping[str, Any]


def escape(value: object) -> str:
    return html.escape(str(value), quote=True)


def dig(run: Any, *keys: str) -> Any:
    """``run[k0][k1]…``, or None where a part is absent."""
    for key in keys:
        if not isinstance(run, Mapping) or key not in run:
            return None
        run = run[key]
    return run


def figure(run: Any, *keys: str) -> float | None:
    """The finite number at ``keys``, or None."""
    value = dig(run, *keys)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def number(value: float | None, digits: int) -> str:
    if value is None:
        return ABSENT
    text = f"{value:,.{digits}f}".replace(",", "\N{THIN SPACE}")
    return ("−" if float(f"{value:.{digits}f}") < 0 else "") + text.lstrip("-")


def digits_for(values: Iterable[float | None]) -> int:
    """Decimals that give a column's smallest value three significant digits: at most four, none for whole numbers."""
    known = [abs(v) for v in values if v]
    if all(v.is_integer() for v in known):
        return 0
    return min(4, max(0, 2 - math.floor(math.log10(min(known)))))


def scroll(label: str, kind: str, rows: str) -> str:
    """A table of class ``kind`` that scrolls sideways in its own box, by keyboard too."""
    box = f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">'
    return f'{box}<table class="{kind}">{rows}</table></div>'


def metric(runs: Iterable[Run]) -> str:
    """What the runs' scores are of."""
    found = {TITLES.get(str(dig(run, "parity", "metric")), "") for run in runs} - {""}
    return " or ".join(sorted(found)) or "mIoU"


def name(run: Run) -> str:
    board = dig(run, "board")
    return f"{f'{board} ' if board else ''}{dig(run, 'target') or ABSENT} {dig(run, 'precision') or ABSENT}"


def count(values: int, one: str, many: str | None = None) -> str:
    return f"{values} {one if values == 1 else many or one + 's'}"
