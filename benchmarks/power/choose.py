"""Which meter: the one named, or the one this machine has."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from types import ModuleType

from edgeseg.benchmarks.power import sources
from edgeseg.benchmarks.power.meter import Meter, Recorder
from edgeseg.errors import InputError

ROOT = Path("/")


def open_meter(source: str | None = None, *, interval_s: float | None = None, root: Path = ROOT) -> Meter:
    """A meter that records once it is entered::

        with power.open_meter("ina") as meter:
            idle = meter.idle(3)
            start = time.perf_counter()
            …
            stop = time.perf_counter()
            energy = meter.energy(start, stop, idle=idle)
        print(energy.mj_per_frame(frames), energy.reasons)

    Args:
        source: ``ina``, ``tegrastats``, ``nvml`` or ``nvml:INDEX``, ``rapl``, ``csv:FILE`` (docs/power.md). None takes
            the board's monitors; without any, the one other meter that this machine has.
        interval_s: between two readings; None leaves it to the source. It means nothing to ``csv``.
        root: where ``sys`` is found.

    Raises:
        InputError: no such source, none on this machine, or more than one and none named.
        DeviceError: the sensor does not answer, or is not for this user to read.
        MissingExtra: NVML without nvidia-ml-py.
    """
    name, _, argument = (source or _choose(root)).partition(":")
    if name not in sources.names():
        raise InputError(f"no power meter '{name}': use one of {', '.join(sources.names())}")
    if interval_s is not None and not 0 < interval_s < math.inf:
        raise InputError(f"the interval between readings must be positive, not {interval_s:g} s")
    recorder: Recorder = _module(name).open_recorder(argument, interval_s, root)
    return Meter(recorder)


def look(name: str, root: Path = ROOT) -> sources.Look | None:
    """Whether this machine has the meter ``name``, one of ``sources.names()``; None where that cannot be told."""
    found: sources.Look | None = _module(name).look(root)
    return found


def _choose(root: Path) -> str:
    found = [name for name in sources.names() if (seen := look(name, root)) and seen.ok]
    if not found:
        raise InputError("this machine has no power meter: `edgeseg doctor` says why; csv:FILE reads an external one")
    if "ina" in found:
        return "ina"
    if len(found) > 1:
        raise InputError(f"this machine has several power meters, of different parts: name one of {', '.join(found)}")
    return found[0]


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{sources.__name__}.{name}")
