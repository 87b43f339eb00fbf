"""What a power sensor said over time, on the clock of ``time.perf_counter``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST_WATTS = 10_000.0  # a counter that would have to wrap at more than this was set back instead


@dataclass(frozen=True)
class Trace:
    """Readings of each rail. ``times``: float64 N, seconds, strictly rising. ``values``: float64 N×R, watts at each
    time; with ``counter`` joules since the first. ``problems``: what went wrong while reading."""

    rails: tuple[str, ...]
    times: Floats
    values: Floats
    counter: bool = False
    problems: tuple[str, ...] = ()
    cpu_seconds: float = 0.0


def unwrap(times: Floats, readings: Floats, ranges: Floats) -> tuple[Floats, tuple[str, ...]]:
    """Counters that start again from 0 after ``ranges`` as joules since the first reading, and what is wrong.

    Args:
        times: float64 N, seconds.
        readings: float64 N×R, joules.
        ranges: float64 R, joules; infinite where a counter does not wrap.
    """
    steps = np.diff(readings, axis=0)
    back = steps < 0
    steps = np.where(back, steps + ranges, steps)
    # A counter that was set back looks like one that wrapped, after an energy that no machine takes in so short a time.
    impossible = (steps < 0) | (steps > MOST_WATTS * np.diff(times)[:, None]) | ~np.isfinite(steps)
    problems = (
        ("an energy counter was set back, or more was counted than any machine takes",) if impossible.any() else ()
    )
    return np.concatenate([np.zeros((1, readings.shape[1])), np.cumsum(steps, axis=0)]), problems


def changes(trace: Trace) -> Trace:
    """A counter's trace where it moved: one that is updated seldom says when, and the readings between say nothing."""
    if len(trace.times) < 2:
        return trace
    moved = np.concatenate([[True], np.any(np.diff(trace.values, axis=0) != 0, axis=1)])
    return Trace(trace.rails, trace.times[moved], trace.values[moved], trace.counter, trace.problems, trace.cpu_seconds)
