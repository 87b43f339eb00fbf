"""Power monitors on the I2C bus, by sysfs: INA3221 of the Jetsons, INA238 of Thor, INA2xx of other boards.

Layouts: JetPack 4 ``drivers/ina3221x/<bus>-<address>/iio:device<N>/{rail_name_<k>, in_power<k>_input}`` (mW, k from 0);
JetPack 5 and later ``drivers/ina3221/<bus>-<address>/hwmon/hwmon<N>/{in<k>_label, in<k>_input, curr<k>_input}`` (mV,
mA, k from 1); INA238 ``power1_input`` (µW). The kernel's hwmon ABI gives the units; channel 7 of an INA3221 is a sum of
shunt voltages and no rail. USB supplies (UCSI) under /sys/class/power_supply say what was agreed on, not what flows.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edgeseg.benchmarks.power.sampler import Reading, Sampler
from edgeseg.benchmarks.power.sources import Look
from edgeseg.benchmarks.power.sources._sysfs import read_number
from edgeseg.benchmarks.power.total import of_board
from edgeseg.errors import DeviceError, InputError

INTERVAL_S = 0.1
DRIVERS = "sys/bus/i2c/drivers"
SINGLE = ("ina238", "ina2xx")  # drivers of monitors with one channel


@dataclass(frozen=True)
class Channel:
    """``files`` multiply, times ``scale``, to watts. ``chip``: its bus and address, as in 1-0040."""

    label: str
    chip: str
    files: tuple[Path, ...]
    scale: float

    def watts(self) -> float:
        """Raises OSError where it cannot be read, DeviceError where it holds no number."""
        return self.scale * math.prod(read_number(path) for path in self.files)


def channels(root: Path) -> tuple[Channel, ...]:
    """All channels that measure a rail, by address. Labels that occur twice get their chip's address."""
    drivers = root / DRIVERS
    found = [
        *_iio(sorted((drivers / "ina3221x").glob("*-*/iio:device*"))),
        *_three(sorted((drivers / "ina3221").glob("*-*/hwmon/hwmon*"))),
        *(c for driver in SINGLE for c in _single(driver, sorted((drivers / driver).glob("*-*/hwmon/hwmon*")))),
    ]
    count = Counter(channel.label for channel in found)
    return tuple(replace(c, label=f"{c.label} ({c.chip})") if count[c.label] > 1 else c for c in found)


def _iio(folders: list[Path]) -> Iterator[Channel]:
    for folder in folders:
        for k in range(3):
            if label := _label(folder / f"rail_name_{k}"):
                yield Channel(label, folder.parent.name, (folder / f"in_power{k}_input",), 1e-3)


def _three(folders: list[Path]) -> Iterator[Channel]:
    for folder in folders:
        for k in range(1, 4):
            label = _label(folder / f"in{k}_label")
            if label and _text(folder / f"in{k}_enable") != "0":
                files = (folder / f"in{k}_input", folder / f"curr{k}_input")
                yield Channel(label, folder.parents[1].name, files, 1e-6)


def _single(driver: str, folders: list[Path]) -> Iterator[Channel]:
    for folder in folders:
        chip = folder.parents[1].name
        label = _label(folder / "label") or _label(folder / "in1_label") or f"{driver} {chip}"
        yield Channel(label, chip, (folder / "power1_input",), 1e-6)


def _label(path: Path) -> str:
    """Empty where there is none, or where nothing is connected."""
    text = _text(path)
    return "" if text == "NC" else text


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


class Monitors:
    """The channels as one sensor, read one after another within some milliseconds; the time is the middle."""

    ranges: tuple[float, ...] | None = None

    def __init__(self, found: tuple[Channel, ...]) -> None:
        self._channels, self.rails = found, tuple(channel.label for channel in found)

    def read(self) -> Reading:
        start = time.perf_counter()
        values = tuple(channel.watts() for channel in self._channels)
        return Reading((start + time.perf_counter()) / 2, values)

    def close(self) -> None:
        """Nothing is held open."""


def open_recorder(argument: str, interval_s: float | None, root: Path) -> Sampler:
    if argument:
        raise InputError(f"ina takes no '{argument}'")
    monitors = Monitors(channels(root))
    if not monitors.rails:
        raise DeviceError(look(root).found)
    try:
        monitors.read()
    except OSError as error:
        raise DeviceError(f"the board's power monitors cannot be read: {error}") from None
    return Sampler("ina", monitors, of_board(monitors.rails, root), interval_s or INTERVAL_S)


def look(root: Path) -> Look:
    found = channels(root)
    if not found:
        return Look(False, "no INA power monitor on this machine")
    rails = tuple(channel.label for channel in found)
    return Look(True, f"{', '.join(rails)}; total: {_total(rails, root)}")


def _total(rails: tuple[str, ...], root: Path) -> str:
    total = of_board(rails, root)
    return " + ".join(total.rails) or f"none ({total.refusal})"
