"""CPU, devices, power sensors and clocks, as Linux shows them under /proc, /sys and /dev.

Sources: the kernel's powercap, hwmon and cpufreq documents. Off Linux all of it reads as missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from edgeseg import cpu
from edgeseg.benchmarks import validity
from edgeseg.cli._finding import Finding

ROOT = Path("/")
DEVICES = {
    "NVIDIA GPU": ("nvidia[0-9]*", "nvhost-gpu", "nvgpu"),
    "render node": ("dri/renderD*",),
    "NPU": ("accel/accel*",),
    "Coral Edge TPU": ("apex_*",),
    "camera": ("video[0-9]*",),
}
# Current and power monitors of Jetson and other boards.
MONITORS = ("ina209", "ina219", "ina220", "ina226", "ina230", "ina231", "ina238", "ina260", "ina3221")


def findings(root: Path = ROOT) -> Iterator[Finding]:
    yield _cpu(root)
    yield _int8(root)
    for name, patterns in DEVICES.items():
        found = sorted(str(path) for pattern in patterns for path in (root / "dev").glob(pattern))
        yield Finding("device", name, bool(found), ", ".join(found) or "none")
    yield _rapl(root)
    yield _monitors(root)
    yield _governor(root)


def _cpu(root: Path) -> Finding:
    found = validity.processor(root)
    flags = " ".join(found["flags"] or ())
    return Finding("cpu", "CPU", True, f"{found['model'] or 'unknown'}, {found['usable_cores']} cores, {flags}")


def _int8(root: Path) -> Finding:
    if cpu.saturates(features=cpu.flags(root / "proc/cpuinfo")):
        return Finding(
            "cpu", "int8 dot product", False, "no VNNI: int8 kernels may saturate",
            "nothing: build here keeps weights small enough to be exact",
        )  # fmt: skip
    return Finding("cpu", "int8 dot product", True, "exact in 32 bits")


def _rapl(root: Path) -> Finding:
    counters = sorted((root / "sys/class/powercap").glob("intel-rapl:*/energy_uj"))
    name = "power: RAPL"
    if not counters:
        return Finding("power", name, False, "no energy counters (virtual machine or not x86)")
    if not os.access(counters[0], os.R_OK):
        return Finding("power", name, False, "only root may read it", f"sudo chmod a+r {counters[0]}")
    return Finding("power", name, True, ", ".join(str(counter.parent.name) for counter in counters))


def _monitors(root: Path) -> Finding:
    names = {path.parent: path.read_text().strip() for path in (root / "sys/class/hwmon").glob("hwmon*/name")}
    found = [f"{name} ({folder.name})" for folder, name in sorted(names.items()) if name in MONITORS]
    return Finding("power", "power: INA monitor", bool(found), ", ".join(found) or "none on this board")


def _governor(root: Path) -> Finding:
    found = validity.processor(root)
    governor, name = found["governor"], "clock governor"
    if governor is None:
        return Finding("clock", name, False, "not shown (virtual machine?): timings may drift unseen")
    limits = f"{governor}, {found['min_mhz']} to {found['max_mhz']} MHz"
    steady = governor == "performance"
    return Finding("clock", name, steady, limits, "" if steady else "sudo cpupower frequency-set -g performance")
