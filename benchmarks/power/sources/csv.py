"""An external meter, by the CSV file that its program writes meanwhile: ``csv:FILE``."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from edgeseg.benchmarks.power._wall_clock import WallClock
from edgeseg.benchmarks.power.sources import Look
from edgeseg.benchmarks.power.sources._csv_rows import Rows, parse
from edgeseg.benchmarks.power.total import Total
from edgeseg.benchmarks.power.trace import Floats, Trace, unwrap
from edgeseg.errors import InputError

PATIENCE_S, AGAIN_S = 5.0, 0.2


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
