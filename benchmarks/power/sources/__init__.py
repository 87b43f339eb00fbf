"""The power meters, one public file each, with two functions: ``look(root)`` says whether this machine has it (None
where that cannot be told), ``open_recorder(argument, interval_s, root)`` opens it."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """Whether the meter is there, what was ``found``, and how to ``mend`` what is not."""

    ok: bool
    found: str
    mend: str = ""


def names() -> list[str]:
    """The meters there are, whether or not this machine has them."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
