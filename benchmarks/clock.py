"""The clock that all figures come from: calls back to back, one reading between two of them."""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Steady: two consecutive windows' medians within 5 %; a window is at least 5 frames and 0.25 s.
WINDOW_S, WINDOW_FRAMES, STEADY, WARM_UP_S = 0.25, 5, 0.05, 5.0

Durations = NDArray[np.int64]
Call = Callable[[], object]


@dataclass(frozen=True)
class WarmUp:
    """How the warm-up ended: whether ``steady``, and the median time of a frame in each window, in ns."""

    steady: bool
    windows: tuple[float, ...]

    @property
    def frame_ns(self) -> float:
        return self.windows[-1]


def warm_up(call: Call) -> WarmUp:
    """Call until clocks, caches and thread pools have settled, or the cap of time is reached."""
    end = time.perf_counter() + WARM_UP_S
    windows = [float(np.median(sample(call, WINDOW_S, WINDOW_FRAMES)))]
    while True:
        windows.append(float(np.median(sample(call, WINDOW_S, WINDOW_FRAMES))))
        steady = abs(windows[-1] - windows[-2]) <= STEADY * windows[-2]
        if steady or time.perf_counter() > end:
            return WarmUp(steady, tuple(windows))


def sample(call: Call, seconds: float, least: int, most: int = 10_000) -> Durations:
    """Times in ns, int64 N, of consecutive calls: for ``seconds``, but no fewer than ``least`` calls and no
    more than the greater of ``least`` and ``most``. The loop allocates nothing and collects no garbage."""
    most = max(least, most)
    stamps = array("q", bytes(8 * (most + 1)))
    clock, count = time.perf_counter_ns, 0
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        stamps[0] = now = clock()
        end = now + round(seconds * 1e9)
        while count < most and (now < end or count < least):
            call()
            now = clock()
            count += 1
            stamps[count] = now
    finally:
        if collecting:
            gc.enable()
    return np.diff(np.frombuffer(stamps, np.int64)[: count + 1])
