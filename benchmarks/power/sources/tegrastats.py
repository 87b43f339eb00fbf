"""tegrastats of the Jetsons: a line each tenth of a second, timed as it arrives.

The date on its lines is the wall clock's, to the second: it is not used. sysfs (``ina``) asks the same monitors with
less work; this is for boards and containers where only tegrastats can be reached.
"""

from __future__ import annotations

import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import IO

from edgeseg.benchmarks.power.sampler import Reading, Sampler
from edgeseg.benchmarks.power.sources import Look
from edgeseg.benchmarks.power.sources._tegrastats_line import parse
from edgeseg.benchmarks.power.total import of_board
from edgeseg.errors import DeviceError, InputError

INTERVAL_S, FIRST_LINE_S = 0.1, 5.0
PROGRAM = "tegrastats"


class Lines:
    """A running tegrastats as a sensor. Its first line says which rails there are; each later one must have them."""

    ranges: tuple[float, ...] | None = None

    def __init__(self, program: str, interval_s: float) -> None:
        command = [program, "--interval", str(max(1, round(1000 * interval_s)))]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                encoding="utf-8", errors="replace",
            )  # fmt: skip
        except OSError as error:
            raise DeviceError(f"tegrastats does not start: {error}") from None
        self.rails: tuple[str, ...] = ()
        try:
            if not select.select([self._output], [], [], FIRST_LINE_S + 2 * interval_s)[0]:
                raise DeviceError(f"tegrastats said nothing within {FIRST_LINE_S:g} s")
            self.rails = tuple(self._line())
        except Exception:
            self.close()
            raise

    @property
    def _output(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def read(self) -> Reading:
        rails = self._line()
        now = time.perf_counter()
        if tuple(rails) != self.rails:
            raise DeviceError(f"tegrastats changed its rails from {', '.join(self.rails)} to {', '.join(rails)}")
        return Reading(now, tuple(milliwatts / 1000 for milliwatts in rails.values()))

    def _line(self) -> dict[str, int]:
        line = self._output.readline()
        if not line.endswith("\n"):
            raise DeviceError("tegrastats ended")
        return parse(line)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def open_recorder(argument: str, interval_s: float | None, root: Path) -> Sampler:
    if argument:
        raise InputError(f"tegrastats takes no '{argument}'")
    program = _program(root)
    if program is None:
        raise DeviceError(look(root).found)
    lines = Lines(program, interval_s or INTERVAL_S)
    return Sampler("tegrastats", lines, of_board(lines.rails, root), 0.0)


def look(root: Path) -> Look:
    program = _program(root)
    return Look(program is not None, program or "no tegrastats: this is no Jetson, or a container without it")


def _program(root: Path) -> str | None:
    """As on the board, or on the PATH of this machine."""
    path = root / "usr/bin" / PROGRAM
    return str(path) if path.exists() else shutil.which(PROGRAM) if root == Path("/") else None
