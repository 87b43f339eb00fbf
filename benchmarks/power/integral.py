"""Energy over exactly one window of a trace, and how far sampling alone may put it out.

Power samples are joined by straight lines and cut at the window's ends (trapezoid rule); counters are read off at the
ends. Where two samples d seconds apart differ by D watts, power may have stepped anywhere between them: an error with a
standard deviation of D·d/√12 (JCGM 100:2008, 4.3.7). In a gap, power may have gone anywhere it went elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeseg.benchmarks.power.trace import Floats, Trace, changes

GAP = 3.5  # of the median interval: two samples may be missing, more without one is a gap
SIGMAS = 2.0
PEAK_S = {False: 0.0, True: 0.5}  # a counter's peak is a mean over at least this, for its updates are not on time


@dataclass(frozen=True)
class Integral:
    """``joules``: float64 R, by rail. Of the sum of the rails chosen: ``total`` joules, ``peak_w``, ``error_j`` (two
    standard deviations). ``samples`` inside the window, ``interval_s`` between them (median), ``coverage``: the share
    of the window between samples that lie no further apart than 3.5 such intervals."""

    joules: Floats
    total: float
    peak_w: float
    error_j: float
    samples: int
    interval_s: float
    coverage: float


def integrate(trace: Trace, start: float, stop: float, chosen: list[int]) -> Integral | None:
    """Energy from ``start`` to ``stop``, in seconds of the trace's clock; None of a trace with fewer than two samples.

    Args:
        chosen: the columns whose sum is the total.
    """
    trace = changes(trace) if trace.counter else trace
    if len(trace.times) < 2:
        return None
    times, lengths = trace.times, np.diff(trace.times)
    total = trace.values[:, chosen].sum(axis=1)
    inside = (times > start) & (times < stop)
    overlap = np.clip(np.minimum(times[1:], stop) - np.maximum(times[:-1], start), 0, None)
    watts = np.diff(total) / lengths if trace.counter else total
    gaps = lengths > GAP * float(np.median(lengths))
    if trace.counter:
        covered = float(overlap.sum())
        joules = _at(trace, stop) - _at(trace, start)
        peak = _counter_peak(times, total, start, stop, PEAK_S[True])
        error = _edges(times, watts, start, stop)
    else:
        covered = float(overlap[~gaps].sum())
        grid = np.concatenate([[start], times[inside], [stop]])
        power = np.stack([np.interp(grid, times, column) for column in trace.values.T], axis=1)
        joules = np.sum((power[1:] + power[:-1]) / 2 * np.diff(grid)[:, None], axis=0)
        peak = float(power[:, chosen].sum(axis=1).max())
        near = total[(times >= start - lengths.max()) & (times <= stop + lengths.max())]
        steps = np.where(gaps, np.ptp(near) if len(near) else 0.0, np.abs(np.diff(total)))
        error = float(np.sqrt(np.sum((steps * overlap) ** 2 / 12)))
    return Integral(
        joules, float(joules[chosen].sum()), peak, SIGMAS * error, int(inside.sum()), float(np.median(lengths)),
        min(1.0, covered / (stop - start)),
    )  # fmt: skip


def _at(trace: Trace, time: float) -> Floats:
    return np.array([np.interp(time, trace.times, column) for column in trace.values.T])


def _edges(times: Floats, watts: Floats, start: float, stop: float) -> float:
    """A counter is exact where it was read; between two readings power may have been what it was to either side."""
    squares = 0.0
    for edge in (start, stop):
        k = int(np.clip(np.searchsorted(times, edge) - 1, 0, len(watts) - 1))
        around = watts[max(0, k - 1) : k + 2]
        squares += (float(np.ptp(around)) * float(times[k + 1] - times[k])) ** 2 / 12
    return float(np.sqrt(squares))


def _counter_peak(times: Floats, joules: Floats, start: float, stop: float, span: float) -> float:
    """The highest mean power between readings at least ``span`` apart, or over the window where it is shorter."""
    lower, upper = np.interp([start, stop], times, joules)
    highest = (upper - lower) / (stop - start)
    for k in np.flatnonzero((times >= start) & (times + span <= stop)):
        end = int(np.searchsorted(times, times[k] + span))
        if end < len(times) and times[end] <= stop:
            highest = max(highest, (joules[end] - joules[k]) / (times[end] - times[k]))
    return float(highest)
