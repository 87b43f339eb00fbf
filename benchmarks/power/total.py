"""Which rails make up the total: by the board's profile, never by adding up what is there.

A rail may supply another that is measured too: POM_5V_IN of a Nano holds POM_5V_GPU (jetson_stats#51), while AGX Orin's
VIN_SYS_5V0 does not hold VDD_GPU_SOC. Which is which stands with its source in edgeseg.boards.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeseg import boards, jetson


@dataclass(frozen=True)
class Total:
    """``rails``: those to add; none where ``refusal`` says why there is no total. ``covers``: what that is."""

    rails: tuple[str, ...]
    covers: str
    refusal: str = ""


def of_board(rails: tuple[str, ...], root: Path) -> Total:
    """The total of the board whose files are under ``root``, from the ``rails`` that its monitors measure."""
    model, names = jetson.model(root), ", ".join(rails)
    board = boards.identify(model)
    if board is None:
        who = f"the board '{model}' is not known" if model else "this board does not say which it is"
        return Total((), "rails only", f"{who}: its rails are {names}, and which of them hold others cannot be told")
    if board.total is None:
        return Total((), "rails only", f"no source says how the rails of {board.title} ({names}) make up a total")
    if missing := [rail for rail in board.total if rail not in rails]:
        return Total(
            (), "rails only", f"the total of {board.title} needs {', '.join(missing)}, which is not among {names}"
        )
    return Total(board.total, f"{board.title} module: {' + '.join(board.total)}")
