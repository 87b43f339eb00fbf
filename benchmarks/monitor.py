"""Clocks, temperatures and throttling while a measurement runs, read from outside the measured process.

Sources: the kernel's cpufreq, devfreq and thermal documents; ``thermal_throttle`` counts on x86. A value that is not
there is left out, none is made up. Cooling devices that are fans do not slow anything and are not looked at.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from edgeseg.benchmarks import validity

EVERY_S = 0.2
FALL = 0.05  # the share of its clock that the CPU may lose within the window


@dataclass(frozen=True)
class State:
    """One reading: seconds of time.perf_counter, MHz by unit, °C by zone, throttling events counted so far, and the
    states of the cooling devices that slow something down."""

    clock: float
    mhz: dict[str, float]
    temperatures: dict[str, float]
    throttles: int | None
    cooling: dict[str, int] = field(default_factory=dict)


def read(root: Path = Path("/")) -> State:
    """The state now; ``root`` is where ``proc`` and ``sys`` are found."""
    return State(time.perf_counter(), _clocks(root), validity.temperatures(root), _throttles(root), _cooling(root))


class Monitor:
    """Reads every 0.2 s in a thread, from entry to exit."""

    def __init__(self, root: Path = Path("/"), every_s: float = EVERY_S) -> None:
        self._root, self._every, self._stop = root, every_s, threading.Event()
        self.states: list[State] = []
        self._thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        while True:
            self.states.append(read(self._root))
            if self._stop.wait(self._every):
                return

    def __enter__(self) -> Monitor:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.states.append(read(self._root))


def series(states: Sequence[State], start: float, stop: float) -> dict[str, Any]:
    """The states as lists, ``seconds`` from ``start``; ``window`` is how long the measurement lasted."""
    units = list(dict.fromkeys(unit for s in states for unit in s.mhz))
    zones = list(dict.fromkeys(zone for s in states for zone in s.temperatures))
    return {
        "seconds": [round(s.clock - start, 3) for s in states],
        "window": [0.0, round(stop - start, 3)],
        "clocks_mhz": {unit: [s.mhz.get(unit) for s in states] for unit in units},
        "temperatures_c": {zone: [s.temperatures.get(zone) for s in states] for zone in zones},
    }


def reasons(states: Sequence[State], start: float, stop: float) -> list[str]:
    """Why a measurement from ``start`` to ``stop`` is not to be trusted: it throttled, or its clock fell."""
    before = [s for s in states if s.clock <= start][-1:]
    after = [s for s in states if s.clock >= stop][:1]
    inside = [s for s in states if start < s.clock < stop]
    seen, found = [*before, *inside, *after], []
    counts = [s.throttles for s in seen if s.throttles is not None]
    if counts and counts[-1] > counts[0]:
        found.append(f"the CPU throttled {counts[-1] - counts[0]} times during the run")
    hot = sorted({name for s in seen for name, state in s.cooling.items() if state > 0})
    if hot:
        found.append(f"throttled by heat: {', '.join(hot)}")
    for unit in sorted({unit for s in inside for unit in s.mhz}):
        clocks = [s.mhz[unit] for s in inside if unit in s.mhz]
        if len(clocks) > 1 and min(clocks) < (1 - FALL) * max(clocks):
            found.append(
                f"the clock of {unit} went from {max(clocks):.0f} to {min(clocks):.0f} MHz (at most {FALL:.0%} apart)"
            )
    return found


def _clocks(root: Path) -> dict[str, float]:
    """The mean of the usable cores' clocks as ``cpu``; each devfreq GPU's as ``gpu``."""
    folders = [root / validity.CPUFREQ.format(core) for core in sorted(validity.cores())]
    mhz = validity.mhz(folders, "scaling_cur_freq")
    found = {"cpu": sum(mhz) / len(mhz)} if mhz else {}
    for path in sorted((root / "sys/class/devfreq").glob("*")):
        if any(word in path.name for word in ("gpu", "gv11b", "gp10b", "gpc", "ga10b", "gm20b")):
            hertz = validity.text_of(path / "cur_freq")
            if hertz and hertz.isdigit():
                found["gpu"] = int(hertz) / 1e6
    return found


def _throttles(root: Path) -> int | None:
    counts = [
        validity.text_of(root / f"sys/devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_count")
        for core in sorted(validity.cores())
    ]
    known = [int(text) for text in counts if text and text.isdigit()]
    return sum(known) if known else None


def _cooling(root: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for path in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind, state = validity.text_of(path / "type"), validity.text_of(path / "cur_state")
        if kind and state and state.isdigit() and "fan" not in kind.lower():
            found[kind] = max(found.get(kind, 0), int(state))
    return found
