"""One row of ``edgeseg doctor``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Whether ``name`` is there (``ok``), what was ``found``, and how to ``mend`` what is not."""

    kind: str
    name: str
    ok: bool
    found: str
    mend: str = ""
