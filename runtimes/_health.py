"""What an engine tells about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Health:
    """How an engine fares.

    ``state``: "ready"; "failed", where the engine is gone until it opens again; "closed". ``frames`` came back;
    ``errors`` did not, ``overdue`` of them by the watchdog's limit; ``reopened`` counts recoveries. ``running`` calls
    have not come back yet, the oldest of them for ``oldest_s`` seconds (0.0: there is none). ``stuck`` ones of these
    were given up. ``dropped`` frames of streams gave way to newer ones. ``last_error`` is the last error's line."""

    state: str
    frames: int
    errors: int
    overdue: int
    reopened: int
    running: int
    oldest_s: float
    stuck: int
    dropped: int
    last_error: str | None


@dataclass(frozen=True)
class Timings:
    """Seconds that one frame took: ``prepare`` (checks, colours, size), ``infer`` (the vendor's call, and the wait for
    it where others run), ``finish`` (labels or boxes out of the outputs)."""

    prepare: float
    infer: float
    finish: float

    @property
    def total(self) -> float:
        return self.prepare + self.infer + self.finish
