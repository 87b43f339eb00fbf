"""An external meter, by the CSV file that its program writes meanwhile: ``csv:FILE``.

The first line names the columns. One of time: ``monotonic_s`` (this machine's CLOCK_MONOTONIC), ``unix_s`` (seconds
since 1970) or ``utc`` (2026-11-25T14:05:06.789Z, or with an offset). One of power: ``power_w``, ``power_mw``, or
``voltage_v`` with ``current_a``; or a meter's count, ``energy_j``. Other columns are not read. Commas separate, the
decimal sign is a point. A last line that is still being written is left out.
"""

from __future__ import annotations

import csv
import io
import re
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from edgeseg.benchmarks.power._wall_clock import WallClock
from edgeseg.benchmarks.power.sources import Look
from edgeseg.benchmarks.power.total import Total
from edgeseg.benchmarks.power.trace import Floats, Trace, unwrap
from edgeseg.errors import InputError

PATIENCE_S, AGAIN_S = 5.0, 0.2
TIMES = ("monotonic_s", "unix_s", "utc")
POWERS = (("power_w",), ("power_mw",), ("voltage_v", "current_a"), ("energy_j",))
NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?")
UTC = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"
)


@dataclass(frozen=True)
class Rows:
    """``clock``: the column of ``times`` (float64 N, s). ``values``: float64 N, watts, or joules (``counter``)."""

    clock: str
    times: Floats
    values: Floats
    counter: bool


def parse(text: str) -> Rows:
    """Raises InputError, with the line, for what is not of the form above."""
    whole = text[: text.rfind("\n") + 1].removeprefix("\ufeff")
    try:
        lines = list(csv.reader(io.StringIO(whole), strict=True))
    except csv.Error as error:
        raise InputError(str(error)) from None
    names = [name.strip() for name in lines[0]] if lines else []
    clock = _one([(name,) for name in TIMES], names, "time")[0]
    power = _one(POWERS, names, "power")
    columns = [names.index(name) for name in (clock, *power)]
    times, values = [], []
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(names):
            raise InputError(f"line {number} has {len(line)} fields, the header {len(names)}")
        first, *others = (line[column].strip() for column in columns)
        times.append(_seconds(first, number) if clock == "utc" else _number(first, number))
        values.append(float(np.prod([_number(other, number) for other in others])))
    scale = 1e-3 if power == ("power_mw",) else 1.0
    return Rows(clock, np.array(times), np.array(values) * scale, power == ("energy_j",))


def _one(choices: list[tuple[str, ...]] | tuple[tuple[str, ...], ...], names: list[str], what: str) -> tuple[str, ...]:
    found = [choice for choice in choices if all(names.count(name) == 1 for name in choice)]
    if len(found) != 1 or any(names.count(name) > 1 for choice in choices for name in choice):
        known = ", ".join(" with ".join(choice) for choice in choices)
        raise InputError(
            f"its first line must name one column of {what} ({known}), not {', '.join(names) or 'nothing'}"
        )
    return found[0]


def _number(text: str, line: int) -> float:
    if not NUMBER.fullmatch(text):
        raise InputError(f"line {line}: '{text[:40]}' is no number")
    return float(text)


def _seconds(text: str, line: int) -> float:
    if (found := UTC.fullmatch(text)) is None:
        raise InputError(f"line {line}: '{text[:40]}' is no time like 2026-11-25T14:05:06.789Z")
    day, hour, fraction, zone = found.groups()
    try:
        whole = datetime.fromisoformat(f"{day}T{hour}{'+00:00' if zone == 'Z' else zone}")
    except ValueError as error:
        raise InputError(f"line {line}: '{text}': {error}") from None
    return whole.timestamp() + float(fraction or 0)


class CsvFile:
    """The file as a recorder: read when the energy is asked for."""

    rails = ("meter",)

    def __init__(self, path: Path) -> None:
        self.name, self.total = "csv", Total(self.rails, f"what the external meter of {path.name} measures")
        self._path, self._clock = path, WallClock()

    def start(self) -> None:
        self._clock.start()

    def stop(self) -> None:
        self._clock.stop()

    def trace(self, until: float) -> Trace:
        """Waits a few seconds for a row at or after ``until``. A file of another form is a problem of the trace, not
        an error: what else was measured stays."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                rows, times = self._read()
            except InputError as error:
                return Trace(self.rails, np.empty(0), np.empty((0, 1)), problems=(str(error),))
            late = time.monotonic() >= end
            if late or (len(times) and times[-1] >= until):
                break
            time.sleep(AGAIN_S)
        problems: tuple[str, ...] = ()
        if not len(times) or times[-1] < until:
            problems = (f"{self._path.name} ends before the measurement: let the meter write until after it",)
        values = rows.values[:, None]
        if rows.counter and len(times):
            values, wrong = unwrap(times, values, np.array([np.inf]))
            problems = (*wrong, *problems)
        return Trace(self.rails, times, values, rows.counter, problems)

    def check(self) -> None:
        """Raises InputError where what is there so far, if only the header, is not of the form."""
        if "\n" in self._text():
            self._rows()

    def _text(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{self._path}: {error}") from None

    def _rows(self) -> Rows:
        text = self._text()
        try:
            return parse(text)
        except InputError as error:
            raise InputError(f"{self._path}: {error}") from None

    def _read(self) -> tuple[Rows, Floats]:
        rows = self._rows()
        try:
            # CLOCK_MONOTONIC is perf_counter's clock on Linux, the one system whose meters are read here.
            times = rows.times if rows.clock == "monotonic_s" else self._clock.steady(rows.times)
            if np.any(np.diff(times) <= 0):
                raise InputError("its times do not rise")
        except InputError as error:
            raise InputError(f"{self._path}: {error}") from None
        return rows, times


def open_recorder(argument: str, interval_s: float | None, root: Path) -> CsvFile:
    if not argument:
        raise InputError("csv needs the file that the external meter writes: csv:FILE")
    if not Path(argument).is_file():
        raise InputError(f"{argument} is no file: start the external meter's program first")
    recorder = CsvFile(Path(argument))
    recorder.check()
    return recorder


def look(root: Path) -> Look | None:
    """None: whether there is an external meter cannot be told."""
    return None
