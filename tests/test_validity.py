"""The stamp of a measurement: what the machine says is read right, what it does not say is None."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.benchmarks import validity
from edgeseg.benchmarks.validity import Snapshot, drift, other_work, processor, snapshot, stamp

CORE = min(validity.cores())
STAT = """cpu  100 0 0 0 0 0 0 0 0 0
cpu{core} 300 50 40 9000 7 6 4 20 0 0
cpu9999 77777 0 0 0 0 0 0 9999 0 0
intr 5
"""


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def at(
    clock: float, own: float = 0, busy: float | None = 0, stolen: float | None = 0, load: float | None = 0
) -> Snapshot:
    return Snapshot(clock, own, busy, stolen, load, {})


def stamped(before: Snapshot, after: Snapshot, durations: list[int], steady: bool = True) -> dict[str, Any]:
    return stamp(before, after, np.array(durations, np.int64), steady=steady, threads=2, toolchain={})


QUIET = [100] * 40


def test_a_snapshot_counts_only_the_cores_this_process_may_use(tmp_path: Path) -> None:
    root = machine(tmp_path, {"proc/stat": STAT.format(core=CORE), "proc/loadavg": "1.25 0.5 0.1 1/99 4242\n"})
    found = snapshot(root)
    second = os.sysconf("SC_CLK_TCK")
    assert found.busy == pytest.approx((300 + 50 + 40 + 6 + 4) / second)
    assert found.stolen == pytest.approx(20 / second)
    assert found.load == 1.25


def test_what_the_machine_does_not_tell_is_none(tmp_path: Path) -> None:
    found = snapshot(tmp_path)
    assert (found.busy, found.stolen, found.load, found.temperatures) == (None, None, None, {})
    assert other_work(found, found) == {"processes": None, "hypervisor": None}
    cpu = processor(tmp_path)
    assert {k for k, v in cpu.items() if v is not None} == {"cores", "usable_cores"}


def test_switched_off_and_broken_thermal_zones_are_left_out(tmp_path: Path) -> None:
    zones = {"0": ("tj", "44343"), "1": ("CV0-therm", "-256000"), "2": ("GPU-therm", ""), "3": ("tj", "51000")}
    files = {f"sys/class/thermal/thermal_zone{n}/{k}": v + "\n" for n, z in zones.items()
             for k, v in zip(("type", "temp"), z, strict=True)}  # fmt: skip
    assert snapshot(machine(tmp_path, files)).temperatures == {"tj (0)": 44.343, "tj (3)": 51.0}


def test_a_board_with_an_arm_cpu(tmp_path: Path) -> None:
    freq = f"sys/devices/system/cpu/cpu{CORE}/cpufreq"
    found = processor(machine(tmp_path, {
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp atomics\nCPU part\t: 0xd42\n",
        "sys/firmware/devicetree/base/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        f"{freq}/scaling_governor": "schedutil\n",
        f"{freq}/scaling_min_freq": "729600\n",
        f"{freq}/scaling_max_freq": "1510400\n",
    }))  # fmt: skip
    assert found["board"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert found["model"] is None
    assert found["flags"] == ["asimd", "asimddp"]
    assert (found["governor"], found["min_mhz"], found["max_mhz"]) == ("schedutil", 729.6, 1510.4)


def test_an_x86_cpu(tmp_path: Path) -> None:
    info = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC\nflags\t\t: fpu sse2 avx2 avx512f avx512_vnni\n"
    found = processor(machine(tmp_path, {"proc/cpuinfo": info}))
    assert found["model"] == "AMD EPYC"
    assert found["flags"] == ["avx2", "avx512f", "avx512_vnni"]


def test_a_quiet_run_is_valid() -> None:
    available = 10.0 * len(validity.cores())
    found = stamped(at(0), at(10, own=0.8 * available, busy=0.85 * available), QUIET)
    assert (found["valid"], found["reasons"]) == (True, [])
    assert found["other_work"]["processes"] == pytest.approx(0.05)


@pytest.mark.parametrize(("after", "durations", "steady", "reason"), [
    ({"own": 2.0, "busy": 5.0}, QUIET, True, "other processes took 30% of the cores (at most 10%)"),
    ({"stolen": 0.8}, QUIET, True, "the hypervisor took 8% of the cores (at most 5%)"),
    ({}, [100] * 20 + [120] * 20, True, "latency drifted by +20% from the first to the last quarter (at most 10%)"),
    ({}, [100] * 20 + [80] * 20, True, "latency drifted by -20% from the first to the last quarter (at most 10%)"),
    ({}, QUIET, False, "no steady state within the warm-up"),
])  # fmt: skip
def test_what_disturbs_a_run_is_named(
    after: dict[str, float], durations: list[int], steady: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validity, "cores", lambda: frozenset({0}))
    found = stamped(at(0), at(10, **after), durations, steady)
    assert (found["valid"], found["reasons"]) == (False, [reason])


def test_the_load_average_speaks_only_where_nothing_better_does() -> None:
    busy = 0.6 * len(validity.cores())
    assert stamped(at(0, load=busy), at(10), QUIET)["valid"]
    (reason,) = stamped(at(0, busy=None, load=busy), at(10, busy=None), QUIET)["reasons"]
    assert reason.startswith("load average")


def test_drift_of_few_frames_is_unknown() -> None:
    assert drift(np.arange(7, dtype=np.int64)) is None
    assert drift(np.array([4, 4, 9, 9, 9, 9, 5, 5], np.int64)) == pytest.approx(0.25)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no /proc/stat: other work cannot be seen here")
def test_another_process_at_work_is_seen_and_own_work_is_not() -> None:
    spin = [sys.executable, "-c", "while True: pass"]
    before = snapshot()
    others = [subprocess.Popen(spin) for _ in validity.cores()]
    try:
        time.sleep(1.5)
    finally:
        for process in others:
            process.kill()
            process.wait()
    seen = other_work(before, snapshot())["processes"]
    assert seen is not None
    assert seen > 0.5
    before, end = snapshot(), time.monotonic() + 1.0
    while time.monotonic() < end:
        pass
    after = snapshot()
    shares = other_work(before, after)["processes"]
    assert shares is not None
    # This process's own second is not other work: what is left at most is the rest of the machine.
    assert shares <= 1 - 0.9 * (after.own - before.own) / (len(validity.cores()) * (after.clock - before.clock))
