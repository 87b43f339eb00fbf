"""A power meter around a measurement."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Protocol

from edgeseg.benchmarks.power.energy import Energy
from edgeseg.benchmarks.power.integral import Integral, integrate
from edgeseg.benchmarks.power.total import Total
from edgeseg.benchmarks.power.trace import Trace
from edgeseg.errors import InputError

LEAST_SAMPLES, LEAST_COVERAGE, MOST_ERROR = 10, 0.9, 0.05


class Recorder(Protocol):
    """What records: ``edgeseg.benchmarks.power.sampler.Sampler``, or a file that another program writes."""

    name: str
    rails: tuple[str, ...]
    total: Total

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def trace(self, until: float) -> Trace: ...


class Meter:
    """Records power from ``with`` on; ``rails`` and ``total`` say what. Asked for a window, also after its end,
    it tells the energy. Open it before the first window, for a window that began earlier is not covered."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.source, self.rails, self.total = recorder.name, recorder.rails, recorder.total

    def __enter__(self) -> Meter:
        self._recorder.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recorder.stop()

    def idle(self, seconds: float = 3.0) -> Energy:
        """Wait that long and tell the energy of it: the baseline, when nothing else runs."""
        start = time.perf_counter()
        time.sleep(seconds)
        return self.energy(start, time.perf_counter())

    def energy(self, start: float, stop: float, *, idle: Energy | None = None) -> Energy:
        """Energy from ``start`` to ``stop``, in seconds of time.perf_counter.

        On Linux that is time.monotonic's clock too, and one for all processes: the window may be another process's.
        Waits up to a few seconds for the reading after ``stop``. ``idle``: a baseline of the same meter, whose average
        power is taken off in ``above_idle_j``.

        Raises:
            InputError: a window that has no length, or a baseline of another source.
        """
        if not (math.isfinite(start) and math.isfinite(stop) and start < stop):
            raise InputError(f"no window of time: from {start:g} to {stop:g} s")
        if idle is not None and (idle.source, idle.total_rails) != (self.source, self.total.rails):
            raise InputError(
                f"the idle baseline is of {idle.source}, not of {self.source}: take it with the same meter"
            )
        trace = self._recorder.trace(stop)
        chosen = [self.rails.index(rail) for rail in self.total.rails]
        found = integrate(trace, start, stop, chosen)
        reasons = self._reasons(trace, found)
        seconds = stop - start
        sound = None if reasons or found is None else found
        joules, idle_w = None if sound is None else sound.total, None if idle is None else idle.average_w
        if idle is not None and idle_w is None:
            reasons = (*reasons, *(f"idle baseline: {reason}" for reason in idle.reasons))
        return Energy(
            source=self.source,
            covers=self.total.covers,
            seconds=seconds,
            joules=joules,
            average_w=None if joules is None else joules / seconds,
            peak_w=None if sound is None else sound.peak_w,
            error=None if sound is None else sound.error_j / sound.total,
            rails=None if found is None else dict(zip(self.rails, map(float, found.joules), strict=True)),
            total_rails=self.total.rails,
            samples=0 if found is None else found.samples,
            interval_s=None if found is None else found.interval_s,
            coverage=0.0 if found is None else found.coverage,
            cpu_share=_cpu_share(trace),
            idle_w=idle_w,
            above_idle_j=None if joules is None or idle_w is None else joules - idle_w * seconds,
            reasons=reasons,
        )

    def _reasons(self, trace: Trace, found: Integral | None) -> tuple[str, ...]:
        """Why there is no total that one could stand by; empty where there is."""
        reasons = [self.total.refusal] if self.total.refusal else []
        if found is None:
            still = trace.counter and len(trace.times) > 1
            return (*reasons, *trace.problems, "the counter did not move" if still else "fewer than two readings")
        if found.samples < LEAST_SAMPLES:
            reasons.append(f"{found.samples} readings within the window (at least {LEAST_SAMPLES}): measure for longer")
        if found.coverage < LEAST_COVERAGE:
            reasons.append(f"readings cover {found.coverage:.0%} of the window (at least {LEAST_COVERAGE:.0%})")
            reasons += trace.problems
        elif trace.counter:
            reasons += trace.problems
        if not self.total.refusal and found.total <= 0:
            reasons.append("the sensor read 0 W throughout" if found.total == 0 else "the sensor read less than 0 W")
        elif not self.total.refusal and found.error_j > MOST_ERROR * found.total:
            share = found.error_j / found.total
            reasons.append(f"sampling leaves ±{share:.0%} (at most {MOST_ERROR:.0%}): measure for longer")
        return tuple(reasons)


def _cpu_share(trace: Trace) -> float:
    whole = float(trace.times[-1] - trace.times[0]) if len(trace.times) > 1 else 0.0
    return trace.cpu_seconds / whole if whole else 0.0
