"""The matrix as Markdown: ``python -m edgeseg.benchmarks.matrix_table README.md DOCUMENT.md RESULTS.json…`` writes
the short form between the two marks in the first file, the full one in the second."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from edgeseg.benchmarks._markdown import insert, rows

NAME = "matrix"
Run = Mapping[str, Any]
Cell = Callable[[Run], str]


def short(runs: Sequence[Run]) -> str:
    """A row for each network: per target the SQNR of fp32 and of fp16 logits, and int8's share of equal labels."""
    targets = list(dict.fromkeys(str(run["target"]) for run in runs))
    cells = [["network", "frame", *targets]]
    for name, group in groupby(runs, _network):
        found = {(run["target"], run["precision"]): run for run in group}
        frame = next((f"{h}×{w}" for run in found.values() if "frame" in run for h, w in [run["frame"]]), "–")
        cells.append([name, frame, *(_proof(found, target) for target in targets)])
    return rows(cells)


def full(runs: Sequence[Run]) -> str:
    """A row for each cell."""
    columns: dict[str, Cell] = {
        "network": _network,
        "weights": lambda run: "trained" if run.get("trained") else "random",
        "target": lambda run: str(run["target"]),
        "precision": lambda run: str(run["precision"]),
        "SQNR dB": lambda run: _number(run["parity"].get("sqnr_db"), ".1f"),
        "agreement %": lambda run: _number(100 * run["parity"]["agreement"], ".2f"),
        "drop": lambda run: _number(run["parity"].get("drop"), ".2f"),
        "p50 ms": lambda run: _number(run["latency_ms"]["p50"], ".1f"),
        "FPS": lambda run: _number(run["fps"], ".1f"),
        "MB": lambda run: _number(run["size_mb"], ".2f"),
        "result": _result,
    }
    return rows([list(columns), *([_cell(run, cell) for cell in columns.values()] for run in runs)])


def _network(run: Run) -> str:
    return " ".join(part for part in (run["model"], run["variant"]) if part)


def _proof(cells: Mapping[tuple[str, str], Run], target: str) -> str:
    parts = []
    for precision in ("fp32", "fp16", "int8"):
        run = cells.get((target, precision))
        if run is None or "error" in run:
            parts.append("failed" if run else "–")
        elif precision == "int8":
            parts.append(_number(100 * run["parity"]["agreement"], ".1f") + " %")
        else:
            parts.append(_number(run["parity"]["sqnr_db"], ".0f") + (" dB" if precision == "fp16" else ""))
    return " / ".join(parts)


def _cell(run: Run, cell: Cell) -> str:
    try:
        return cell(run)
    except KeyError:  # a cell that failed has no figures
        return "–"


def _result(run: Run) -> str:
    if "error" in run:
        return str(run["error"]).replace("|", "/")
    return {True: "passed", False: "over the gate", None: "no gate"}[run["parity"]["passed"]]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def main(readme: str, document: str, *results: str) -> None:
    runs = [run for path in results for run in json.loads(Path(path).read_text(encoding="utf-8"))["runs"]]
    for path, table in ((Path(readme), short(runs)), (Path(document), full(runs))):
        path.write_text(insert(path.read_text(encoding="utf-8"), NAME, table), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
