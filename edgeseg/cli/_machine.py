"""CPU, devices, power sensors and clocks, as Linux shows them under /proc, /sys and /dev.

Sources: the kernel's powercap, hwmon and cpufreq documents. Off Linux all of it reads as missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeseg import cpu
from edgeseg.benchmarks import power, validity
from edgeseg.benchmarks.power import sources
from edgeseg.cli._finding import Finding

ROOT = Path("/")
DEVICES = {
    "NVIDIA GPU": ("nvidia[0-9]*", "nvhost-gpu", "nvgpu"),
    "render node": ("dri/renderD*",),
    "NPU": ("accel/accel*",),
    "Coral Edge TPU": ("apex_*",),
    "camera": ("video[0-9]*",),
}


def findings(root: Path = ROOT) -> Iterator[Finding]:
    yield _cpu(root)
    yield _int8(root)
    for name, patterns in DEVICES.items():
        found = sorted(str(path) for pattern in patterns for path in (root / "dev").glob(pattern))
        yield Finding("device", name, bool(found), ", ".join(found) or "none")
    yield from _power(root)
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


def _power(root: Path) -> Iterator[Finding]:
    """The meters that ``bench --power`` takes, in this machine's own files."""
    for name in sources.names():
        if seen := power.look(name, root):
            yield Finding("power", f"power: {name}", seen.ok, seen.found, seen.mend)


def _governor(root: Path) -> Finding:
    found = validity.processor(root)
    governor, name = found["governor"], "clock governor"
    if governor is None:
        return Finding("clock", name, False, "not shown (virtual machine?): timings may drift unseen")
    limits = f"{governor}, {found['min_mhz']} to {found['max_mhz']} MHz"
    steady = governor == "performance"
    return Finding("clock", name, steady, limits, "" if steady else "sudo cpupower frequency-set -g performance")
