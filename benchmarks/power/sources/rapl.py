"""Energy counters of Intel and AMD processors (RAPL), by the kernel's powercap tree.

The total is the sum of the packages. Domains inside a package (core, uncore) are part of it, ``psys`` holds the
package, ``dram`` lies beside it and is not on every machine: all of them are told and none is added.
``intel-rapl-mmio`` shows the packages a second time (codecarbon PR#950) and is not read. Since CVE-2020-8694 only root
may read the counters; there is no estimate in their place.
Source: Documentation/power/powercap/powercap.rst; AMD has the same names since Linux 5.8.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from edgeseg.benchmarks.power.sampler import Reading, Sampler
from edgeseg.benchmarks.power.sources import Look
from edgeseg.benchmarks.power.sources._sysfs import read_number
from edgeseg.benchmarks.power.total import Total
from edgeseg.errors import DeviceError, InputError

INTERVAL_S = 0.05
FOLDER = "sys/class/powercap"
PACKAGE = re.compile(r"package-[0-9]+(-die-[0-9]+)?")


@dataclass(frozen=True)
class Domain:
    """``label``: its name, with its package's where it lies in one. ``range_j``: the counter starts again after it."""

    label: str
    folder: Path
    range_j: float

    def joules(self) -> float:
        return read_number(self.folder / "energy_uj") / 1e6


def domains(root: Path) -> tuple[Domain, ...]:
    """Raises DeviceError where two have one name, OSError where they cannot be read."""
    found = []
    for folder in sorted((root / FOLDER).glob("intel-rapl:*")):
        if not re.fullmatch(r"intel-rapl:[0-9]+(:[0-9]+)?", folder.name):
            continue
        name = (folder / "name").read_text(encoding="utf-8").strip()
        parent, _, inner = folder.name.removeprefix("intel-rapl:").partition(":")
        if inner:
            name = f"{(folder.parent / f'intel-rapl:{parent}/name').read_text(encoding='utf-8').strip()}/{name}"
        found.append(Domain(name, folder, read_number(folder / "max_energy_range_uj") / 1e6))
    labels = [domain.label for domain in found]
    if len(set(labels)) < len(labels):
        raise DeviceError(f"RAPL names a domain twice: {', '.join(labels)}")
    return tuple(found)


class Counters:
    """The domains as one sensor."""

    def __init__(self, found: tuple[Domain, ...]) -> None:
        self._domains, self.rails = found, tuple(domain.label for domain in found)
        self.ranges: tuple[float, ...] | None = tuple(domain.range_j for domain in found)

    def read(self) -> Reading:
        start = time.perf_counter()
        values = tuple(domain.joules() for domain in self._domains)
        return Reading((start + time.perf_counter()) / 2, values)

    def close(self) -> None:
        """Nothing is held open."""


def open_recorder(argument: str, interval_s: float | None, root: Path) -> Sampler:
    if argument:
        raise InputError(f"rapl takes no '{argument}'")
    if not (seen := look(root)).ok:
        raise DeviceError(seen.found + (f": {seen.mend}" if seen.mend else ""))
    counters = Counters(domains(root))
    counters.read()
    return Sampler("rapl", counters, _total(counters.rails), interval_s or INTERVAL_S)


def _total(rails: tuple[str, ...]) -> Total:
    packages = tuple(rail for rail in rails if PACKAGE.fullmatch(rail))
    if not packages:
        return Total((), "domains only", f"RAPL shows no package among {', '.join(rails)}")
    return Total(packages, f"CPU: {' + '.join(packages)}, without memory")


def look(root: Path) -> Look:
    counters = sorted((root / FOLDER).glob("intel-rapl:*/energy_uj"))
    if not counters:
        return Look(False, "no energy counters (virtual machine or not x86)")
    if any(not os.access(counter, os.R_OK) for counter in counters):
        command = f"sudo chmod a+r /{FOLDER}/intel-rapl:*/energy_uj"
        return Look(False, "only root may read the energy counters", command)
    try:
        return Look(True, ", ".join(domain.label for domain in domains(root)))
    except (DeviceError, OSError) as error:
        return Look(False, str(error))
