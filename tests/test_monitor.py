"""What is seen of clocks and heat while a measurement runs, and what of it speaks against the figures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from edgeseg.benchmarks import monitor, validity
from edgeseg.benchmarks.latency import watched
from edgeseg.benchmarks.monitor import Monitor, State, read, reasons, series

CORE = min(validity.cores())


def board(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_a_board_is_read(tmp_path: Path) -> None:
    found = read(board(tmp_path, {
        f"devices/system/cpu/cpu{CORE}/cpufreq/scaling_cur_freq": "1510400",
        f"devices/system/cpu/cpu{CORE}/thermal_throttle/core_throttle_count": "7",
        "class/devfreq/17000000.gpu/cur_freq": "612000000", "class/devfreq/nvdec/cur_freq": "1",
        "class/thermal/thermal_zone0/type": "tj", "class/thermal/thermal_zone0/temp": "51000",
        "class/thermal/cooling_device0/type": "pwm-fan", "class/thermal/cooling_device0/cur_state": "3",
        "class/thermal/cooling_device1/type": "cpu-throttle-alert", "class/thermal/cooling_device1/cur_state": "1",
    }))  # fmt: skip
    assert found.mhz == {"cpu": 1510.4, "gpu": 612.0}
    assert (found.throttles, found.temperatures, found.cooling) == (7, {"tj (0)": 51.0}, {"cpu-throttle-alert": 1})


def test_what_is_not_told_is_left_out(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert (found.mhz, found.temperatures, found.throttles, found.cooling) == ({}, {}, None, {})
    assert reasons([found, found], 0, 1) == []


def states(mhz: list[float], throttles: int = 0, cooling: int = 0) -> list[State]:
    last = len(mhz) - 1
    return [State(float(i), {"cpu": v}, {"tj": 40.0 + i}, throttles * (i == last), {"cpu": cooling * (i == 2)})
            for i, v in enumerate(mhz)]  # fmt: skip


@pytest.mark.parametrize(("seen", "words"), [
    (states([1000] * 6, throttles=3), ["the CPU throttled 3 times during the run"]),
    (states([1000] * 6, cooling=2), ["throttled by heat: cpu"]),
    (states([500, 1500, 1500, 1500, 1200, 500]), ["the clock of cpu went from 1500 to 1200 MHz (at most 5% apart)"]),
    (states([500, 1500, 1500, 1500, 1480, 500]), []),
])  # fmt: skip
def test_throttling_and_falling_clocks_speak_against_a_run(seen: list[State], words: list[str]) -> None:
    assert reasons(seen, 0.5, 4.5) == words
    run: dict[str, Any] = {"window": [0.5, 4.5], "validity": {"valid": True, "reasons": []}}
    found = watched(run, seen)
    assert found["validity"] == {"valid": not words, "reasons": words}
    assert found["series"]["temperatures_c"] == {"tj": [40, 41, 42, 43, 44, 45]}
    assert found["series"]["window"] == [0.0, 4.0] and found["series"]["seconds"][0] == -0.5


def test_it_watches_until_the_end(tmp_path: Path) -> None:
    start = time.perf_counter()
    with Monitor(tmp_path, every_s=0.05) as watch:
        time.sleep(0.3)
        while len(watch.states) < 4 and time.perf_counter() < start + 10:  # on a busy machine its turn may be late
            time.sleep(0.01)
    stop = time.perf_counter()
    assert 4 <= len(watch.states) <= 2 + (stop - start) / 0.05
    assert start <= watch.states[0].clock <= watch.states[-1].clock <= stop
    assert series(watch.states, start, stop)["clocks_mhz"] == {}
    assert monitor.EVERY_S == 0.2


def test_clocks_are_locked_where_least_is_greatest(tmp_path: Path) -> None:
    assert validity.locked(tmp_path) is None
    freq = f"devices/system/cpu/cpu{CORE}/cpufreq"
    for low, held in (("1510400", True), ("729600", False)):
        board(tmp_path, {f"{freq}/scaling_min_freq": low, f"{freq}/scaling_max_freq": "1510400"})
        assert validity.locked(tmp_path) is held
