"""From the wall clock to ``time.perf_counter``, also where the wall clock was set meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgeseg.benchmarks.power.trace import Floats
from edgeseg.errors import InputError

EVERY_S, STEP_S = 0.1, 0.01  # NTP slews by at most 0.0005 s a second: more than this was set


class WallClock:
    """Notes how far the two clocks are apart, ten times a second."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.perf_counter) -> None:
        self._wall, self._steady = wall, steady
        self._notes: list[tuple[float, float]] = []  # steady time, wall less steady
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="power-clock", daemon=True)

    def start(self) -> None:
        self.note()
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()
        self.note()

    def note(self) -> None:
        """The closest of three pairs of readings: in between, this thread may have had to wait."""
        tries = []
        for _ in range(3):
            before, wall, after = self._steady(), self._wall(), self._steady()
            tries.append((after - before, before, wall - (before + after) / 2))
        _, now, offset = min(tries)
        self._notes.append((now, offset))

    def _run(self) -> None:
        while not self._done.wait(EVERY_S):
            self.note()

    def steady(self, times: Floats) -> Floats:
        """Wall-clock ``times`` (seconds since 1970, in the order they were written) on the steady clock.

        Where this machine's wall clock was set in between, the times must show the same step: they were written by
        the same clock. Raises InputError where they do not, or where they go back without one.
        """
        moments, offsets = (np.array(column) for column in zip(*self._notes, strict=True))
        breaks = np.flatnonzero(np.abs(np.diff(offsets)) > STEP_S) + 1
        spans = list(zip(np.split(moments, breaks), np.split(offsets, breaks), strict=True))
        part, found = self._parts(times, spans), np.empty_like(times)
        for k, (moment, offset) in enumerate(spans):
            here = times[part == k]
            found[part == k] = here - np.interp(here - offset[0], moment, offset)
        if len(fallen := np.flatnonzero(np.diff(found) <= 0)):
            raise InputError(f"its times do not rise from row {fallen[0] + 1} to the next")
        return found

    @staticmethod
    def _parts(times: Floats, spans: list[tuple[Floats, Floats]]) -> NDArray[np.intp]:
        """Between which two steps of the clock each time was written. A clock set forward leaves times out, one set
        back has them go back; a time that was left out, or the want of one that goes back, is of another clock."""
        found, k = np.empty(len(times), np.intp), 0
        for i, moment in enumerate(times):
            while k + 1 < len(spans):
                (_, before), (later, after) = spans[k], spans[k + 1]
                early = spans[k][0][-1]
                forward = after[0] > before[-1]
                passed = moment - after[0] >= early if forward else i > 0 and moment < times[i - 1]
                if not passed and moment - before[-1] > later[0]:
                    raise InputError("this machine's clock was set meanwhile and the meter's was not: use monotonic_s")
                if not passed:
                    break
                k += 1
            found[i] = k
        return found
