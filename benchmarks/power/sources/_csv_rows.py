"""The rows of an external meter's CSV file.

The first line names the columns. One of time: ``monotonic_s`` (this machine's CLOCK_MONOTONIC), ``unix_s`` (seconds
since 1970) or ``utc`` (2026-11-25T14:05:06.789Z, or with an offset). One of power: ``power_w``, ``power_mw``, or
``voltage_v`` with ``current_a``; or a meter's count, ``energy_j``. Other columns are not read. Commas separate, the
decimal sign is a point. A last line that is still being written is left out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from edgeseg.benchmarks.power.trace import Floats
from edgeseg.errors import InputError

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


def _one(choices: Sequence[tuple[str, ...]], names: list[str], what: str) -> tuple[str, ...]:
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
