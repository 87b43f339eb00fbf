"""Reads a sensor in a thread of its own, beside what is measured."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgeseg.benchmarks.power.total import Total
from edgeseg.benchmarks.power.trace import Trace, unwrap
from edgeseg.errors import EdgesegError

PATIENCE_S = 3.0


@dataclass(frozen=True)
class Reading:
    """``time``: seconds of time.perf_counter. ``values``: watts, or a counter's joules, of each rail."""

    time: float
    values: tuple[float, ...]


class Sensor(Protocol):
    """What a sampler reads. ``ranges``: joules after which each counter starts again; None of power sensors.

    ``read`` may block until there is something to read. It raises OSError where one reading failed, and EdgesegError
    where no further one will do."""

    rails: tuple[str, ...]
    ranges: tuple[float, ...] | None

    def read(self) -> Reading: ...

    def close(self) -> None: ...


class Sampler:
    """``name``: the source's; ``interval_s`` between readings: 0 for a sensor that sets the pace itself."""

    def __init__(self, name: str, sensor: Sensor, total: Total, interval_s: float) -> None:
        self.name, self.rails, self.total = name, sensor.rails, total
        self._sensor, self._interval = sensor, interval_s
        self._readings: list[Reading] = []
        self._failures, self._problem, self._cpu = 0, "", 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"power-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Also closes the sensor; what was read stays."""
        self._done.set()
        if self._interval:
            self._thread.join()
        self._sensor.close()  # ends a read that blocks
        self._thread.join()

    def trace(self, until: float) -> Trace:
        """All that was read; waits a few seconds for a reading at or after ``until``."""
        end = time.monotonic() + PATIENCE_S
        while not self._reached(until) and self._thread.is_alive() and time.monotonic() < end:
            time.sleep(0.01)
        found = list(self._readings)
        problems = tuple(
            text for text in (self._problem, f"{self._failures} readings failed" if self._failures else "") if text
        )
        if not found:
            return Trace(self.rails, np.empty(0), np.empty((0, len(self.rails))), problems=problems)
        times = np.array([reading.time for reading in found])
        values = np.array([reading.values for reading in found], np.float64)
        counter = self._sensor.ranges is not None
        if self._sensor.ranges is not None:
            values, wrong = unwrap(times, values, np.array(self._sensor.ranges))
            problems = (*wrong, *problems)
        return Trace(self.rails, times, values, counter, problems, self._cpu)

    def _reached(self, until: float) -> bool:
        if not self._readings or self._readings[-1].time < until:
            return False
        if self._sensor.ranges is None:
            return True
        # A counter that is updated seldom has reached it once it has moved since.
        before = [r.values for r in self._readings[-1000:] if r.time < until]
        return bool(before) and self._readings[-1].values != before[-1]

    def _run(self) -> None:
        due = time.monotonic()
        while not self._done.is_set():
            try:
                reading = self._sensor.read()
                if not self._readings or reading.time > self._readings[-1].time:
                    self._readings.append(reading)
            except OSError:
                self._failures += 1
            except EdgesegError as error:
                self._problem = "" if self._done.is_set() else str(error)
                return
            finally:
                self._cpu = time.thread_time()
            due = max(due + self._interval, time.monotonic())
            self._done.wait(due - time.monotonic())
