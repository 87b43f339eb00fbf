"""The stamp of a measurement: on what machine, in what state, and whether the figures may be trusted.

Nothing is guessed: what the machine does not tell is None. A fast engine on a cold clock or beside another
job looks slow (dusty-nv/jetson-inference#764, NVIDIA/TensorRT#1005), so both are looked for and named.
Sources: proc(5) for ``/proc/stat``, the kernel's cpufreq and thermal documents for sysfs.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg import cpu, jetson

FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "amx_int8",
    "asimd",
    "asimdhp",
    "asimddp",
    "i8mm",
    "sve",
)
OTHER_WORK, STOLEN, DRIFT, LOAD = 0.10, 0.05, 0.10, 0.5
USER, NICE, SYSTEM, IRQ, SOFTIRQ, STEAL = 0, 1, 2, 5, 6, 7  # columns of a cpu line in /proc/stat
# A frame's time is the whole call of ``run``: arrays on the host in and out. CUDA graphs are TensorRT's own matter.
IN_THE_TIME = {"transfers": True, "graphs": False, "preprocess": "in the graph", "postprocess": "apart"}
CPUFREQ = "sys/devices/system/cpu/cpu{}/cpufreq"


@dataclass(frozen=True)
class Snapshot:
    """The machine at one instant. Seconds of CPU time on the cores this process may use: ``busy`` with any
    process, ``stolen`` by the hypervisor, ``own`` in this process; the load average of a minute; °C."""

    clock: float
    own: float
    busy: float | None
    stolen: float | None
    load: float | None
    temperatures: dict[str, float]


def snapshot(root: Path = Path("/")) -> Snapshot:
    """Take one; ``root`` is where ``proc`` and ``sys`` are found."""
    busy, stolen = _cpu_seconds(text_of(root / "proc/stat"), cores())
    load = text_of(root / "proc/loadavg")
    minute = float(load.split()[0]) if load else None
    return Snapshot(time.monotonic(), time.process_time(), busy, stolen, minute, temperatures(root))


def stamp(
    before: Snapshot, after: Snapshot, durations: NDArray[np.int64], *, steady: bool, threads: int | None,
    toolchain: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    """The stamp of a run between two snapshots.

    Args:
        durations: int64 N, time of each frame in the order taken.
        steady: whether the warm-up ended in a steady state.
        threads: as asked for; None left it to the target.
        toolchain: the manifest's packages and the versions the artifact was built with.
    """
    shares = other_work(before, after)
    drifted = drift(durations)
    reasons = _reasons(before, shares, drifted, steady)
    return {
        "valid": not reasons,
        "reasons": reasons,
        "cpu": processor(),
        "clocks_locked": locked(),
        "power_mode": jetson.power_mode(),
        "driver": text_of(Path("/sys/module/nvidia/version")),
        "threads": threads,
        "affinity": sorted(cores()),
        "in_the_time": IN_THE_TIME,
        "load_average": {"before": before.load, "after": after.load},
        "other_work": shares,
        "drift": drifted,
        "steady": steady,
        "temperatures_c": {"before": before.temperatures, "after": after.temperatures},
        "toolchain": {name: {"built": built, "installed": _installed(name)} for name, built in toolchain.items()},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def other_work(before: Snapshot, after: Snapshot) -> dict[str, float | None]:
    """Shares (0 to 1) of the usable cores' time that other processes and the hypervisor took in between."""
    available = (after.clock - before.clock) * len(cores())
    if before.busy is None or after.busy is None or before.stolen is None or after.stolen is None or available <= 0:
        return {"processes": None, "hypervisor": None}
    others = after.busy - before.busy - (after.own - before.own)
    stolen = after.stolen - before.stolen
    return {
        "processes": min(1.0, max(0.0, others / available)),
        "hypervisor": min(1.0, max(0.0, stolen / available)),
    }


def drift(durations: NDArray[np.int64]) -> float | None:
    """Median of the last quarter over the first quarter's, less one; None of fewer than eight frames."""
    quarter = len(durations) // 4
    if quarter < 2:
        return None
    return float(np.median(durations[-quarter:]) / np.median(durations[:quarter]) - 1)


def _reasons(before: Snapshot, shares: Mapping[str, float | None], drifted: float | None, steady: bool) -> list[str]:
    found = [] if steady else ["no steady state within the warm-up"]
    processes, stolen = shares["processes"], shares["hypervisor"]
    if processes is not None and processes > OTHER_WORK:
        found.append(f"other processes took {processes:.0%} of the cores (at most {OTHER_WORK:.0%})")
    if stolen is not None and stolen > STOLEN:
        found.append(f"the hypervisor took {stolen:.0%} of the cores (at most {STOLEN:.0%})")
    # The load average also counts what this program did a moment ago: it speaks where nothing better does.
    if processes is None and before.load is not None and before.load > LOAD * len(cores()):
        found.append(f"load average {before.load:.2f} before the run (at most {LOAD} a core)")
    if drifted is not None and abs(drifted) > DRIFT:
        found.append(f"latency drifted by {drifted:+.0%} from the first to the last quarter (at most {DRIFT:.0%})")
    return found


def processor(root: Path = Path("/")) -> dict[str, Any]:
    """The CPU: model, board, cores, the flags that int8 and fp16 kernels ask for, governor, limits in MHz."""
    info = text_of(root / "proc/cpuinfo")
    board = text_of(root / "sys/firmware/devicetree/base/model")
    known = cpu.flags(root / "proc/cpuinfo")
    folders = [root / CPUFREQ.format(core) for core in sorted(cores())]
    governors = {text for folder in folders if (text := text_of(folder / "scaling_governor"))}
    return {
        "model": _field(info, "model name", "Model"),
        "board": board.strip("\0") if board else None,
        "cores": os.cpu_count(),
        "usable_cores": len(cores()),
        "flags": [flag for flag in FLAGS if flag in known] if known else None,
        "governor": ", ".join(sorted(governors)) or None,
        "min_mhz": min(mhz(folders, "scaling_min_freq"), default=None),
        "max_mhz": max(mhz(folders, "scaling_max_freq"), default=None),
    }


def locked(root: Path = Path("/")) -> bool | None:
    """Whether the clock of every usable core is held: its least is its greatest. None where that is not told."""
    folders = [root / CPUFREQ.format(core) for core in sorted(cores())]
    pairs = [(text_of(f / "scaling_min_freq"), text_of(f / "scaling_max_freq")) for f in folders]
    known = [low == high for low, high in pairs if low and high]
    return all(known) if known else None


def cores() -> frozenset[int]:
    """The logical cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _cpu_seconds(stat: str | None, usable: frozenset[int]) -> tuple[float | None, float | None]:
    names = {f"cpu{core}" for core in usable}
    rows = [line.split() for line in (stat or "").splitlines()]
    ticks = [[int(v) for v in row[1:]] for row in rows if row and row[0] in names and len(row) > STEAL + 1]
    if not ticks:
        return None, None
    second = os.sysconf("SC_CLK_TCK")
    busy = sum(row[column] for row in ticks for column in (USER, NICE, SYSTEM, IRQ, SOFTIRQ))
    return busy / second, sum(row[STEAL] for row in ticks) / second


def temperatures(root: Path) -> dict[str, float]:
    found = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        kind, millidegrees = text_of(zone / "type"), text_of(zone / "temp")
        # A Jetson's switched-off domain says -256 °C.
        if kind and millidegrees and (celsius := int(millidegrees) / 1000) > -200:
            found[f"{kind} ({zone.name.removeprefix('thermal_zone')})"] = celsius
    return found


def mhz(folders: list[Path], name: str) -> list[float]:
    return [int(text) / 1000 for folder in folders if (text := text_of(folder / name)) and text.isdigit()]


def _field(info: str | None, *keys: str) -> str | None:
    for line in (info or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys and value.strip():
            return value.strip()
    return None


def text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
