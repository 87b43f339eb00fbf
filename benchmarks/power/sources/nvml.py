"""NVIDIA's management library: the energy counter of a graphics card, or its power where it has no counter.

The counter (mJ; Volta and later) is updated about every tenth of a second, so only the readings where it moved count.
``nvmlDeviceGetPowerUsage`` is a mean over the last second from Ampere on (except GA100), so power now is asked for
first (field NVML_FI_DEV_POWER_INSTANT). On a Jetson all of them are "not supported", though NVML starts: that is an
error here, not 0 W (HazyResearch/intelligence-per-watt#40).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeseg.benchmarks.power.sampler import Reading, Sampler
from edgeseg.benchmarks.power.sources import Look
from edgeseg.benchmarks.power.total import Total
from edgeseg.errors import DeviceError, EdgesegError, InputError, MissingExtra

INTERVAL_S = 0.05


class Card:
    """One graphics card as a sensor. ``index``: None takes the only one."""

    def __init__(self, index: int | None) -> None:
        self._nvml = _library()
        try:
            count = self._nvml.nvmlDeviceGetCount()
            if index is None and count != 1:
                raise InputError(f"there are {count} NVIDIA GPUs: say which, nvml:0 to nvml:{count - 1}")
            if index is not None and index >= count:
                raise InputError(f"no GPU {index}: there are {count}, from nvml:0 on")
            self._handle = self._nvml.nvmlDeviceGetHandleByIndex(index or 0)
            name = self._nvml.nvmlDeviceGetName(self._handle)
            self.title = name.decode() if isinstance(name, bytes) else str(name)
            self._value, counter = self._choose()
        except self._nvml.NVMLError as error:
            self.close()
            raise DeviceError(f"NVML: {error}") from None
        except EdgesegError:
            self.close()
            raise
        self.rails: tuple[str, ...] = (f"GPU {index or 0}",)
        self.ranges: tuple[float, ...] | None = (float("inf"),) if counter else None

    def _choose(self) -> tuple[Callable[[], float], bool]:
        """What this card answers, and whether it is a counter."""
        for value, counter in ((self._energy, True), (self._instant, False), (self._average, False)):
            try:
                value()
            except self._nvml.NVMLError_NotSupported:
                continue
            return value, counter
        raise DeviceError(f"{self.title} tells NVML neither energy nor power (a Jetson does not): use ina")

    def _energy(self) -> float:
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1000

    def _instant(self) -> float:
        field = self._nvml.nvmlDeviceGetFieldValues(self._handle, [self._nvml.NVML_FI_DEV_POWER_INSTANT])[0]
        if field.nvmlReturn != self._nvml.NVML_SUCCESS or field.valueType != self._nvml.NVML_VALUE_TYPE_UNSIGNED_INT:
            raise self._nvml.NVMLError_NotSupported
        return float(field.value.uiVal) / 1000

    def _average(self) -> float:
        return float(self._nvml.nvmlDeviceGetPowerUsage(self._handle)) / 1000

    def read(self) -> Reading:
        start = time.perf_counter()
        try:
            value = self._value()
        except self._nvml.NVMLError as error:
            raise DeviceError(f"NVML: {error}") from None
        return Reading((start + time.perf_counter()) / 2, (value,))

    def close(self) -> None:
        self._nvml.nvmlShutdown()


def _library() -> Any:
    """nvidia-ml-py, started."""
    try:
        import pynvml
    except ImportError:
        raise MissingExtra("nvml", "nvidia-ml-py", "nvml") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise DeviceError(f"NVML does not start: {error}") from None
    return pynvml


def open_recorder(argument: str, interval_s: float | None, root: Path) -> Sampler:
    if argument and not (argument.isascii() and argument.isdigit()):
        raise InputError(f"nvml takes the GPU's number, as in nvml:0, not '{argument}'")
    card = Card(int(argument) if argument else None)
    return Sampler("nvml", card, Total(card.rails, f"{card.title}, the card alone"), interval_s or INTERVAL_S)


def look(root: Path) -> Look:
    try:
        nvml = _library()
    except MissingExtra as error:
        return Look(False, "nvidia-ml-py is not installed", str(error).partition(": ")[2])
    except DeviceError as error:
        return Look(False, str(error))
    try:
        cards = [Card(index) for index in range(nvml.nvmlDeviceGetCount())]
    except DeviceError as error:
        return Look(False, str(error))
    finally:
        nvml.nvmlShutdown()
    for card in cards:
        card.close()
    return Look(bool(cards), ", ".join(card.title for card in cards) or "no NVIDIA GPU")
