"""Power monitors and energy counters in trees made as the boards' kernels lay them out (no board was at hand)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeseg.benchmarks import power
from edgeseg.benchmarks.power.sources import ina, rapl
from edgeseg.benchmarks.power.sources._sysfs import parse_number
from edgeseg.benchmarks.power.trace import Trace, unwrap
from edgeseg.cli import _machine
from edgeseg.errors import DeviceError, InputError
from tests.test_boards import tree
from tests.test_power_integral import Recorded

MODEL = "sys/firmware/devicetree/base/model"
Files = dict[str, str]


def iio(chip: str, device: int, rails: list[tuple[str, int]]) -> Files:
    """JetPack 4: power in mW."""
    folder = f"sys/bus/i2c/drivers/ina3221x/{chip}/iio:device{device}"
    files: Files = {}
    for k, (label, milliwatts) in enumerate(rails):
        files |= {
            f"{folder}/rail_name_{k}": f"{label}\n",
            f"{folder}/in_power{k}_input": f"{milliwatts}\n",
            f"{folder}/in_voltage{k}_input": "5000\n",
            f"{folder}/in_current{k}_input": f"{milliwatts // 5}\n",
            f"{folder}/crit_current_limit_{k}": "32760 ma\n",
        }
    return files


def hwmon(chip: str, number: int, rails: list[tuple[str, int, int]]) -> Files:
    """JetPack 5 and later: mV and mA, and channel 7, the sum of shunt voltages."""
    folder = f"sys/bus/i2c/drivers/ina3221/{chip}/hwmon/hwmon{number}"
    files = {
        f"{folder}/name": "ina3221\n",
        f"{folder}/in7_label": "sum of shunt voltages\n",
        f"{folder}/in7_input": "9",
    }
    for k, (label, millivolts, milliamperes) in enumerate(rails, 1):
        files |= {
            f"{folder}/in{k}_label": f"{label}\n",
            f"{folder}/in{k}_enable": "1\n",
            f"{folder}/in{k}_input": f"{millivolts}\n",
            f"{folder}/curr{k}_input": f"{milliamperes}\n",
            f"{folder}/curr{k}_crit_alarm": "0\n",
        }
    return files


NX = [("VDD_IN", 5000, 1200), ("VDD_CPU_GPU_CV", 5000, 400), ("VDD_SOC", 5000, 200)]
NC = ("NC", 0, 0)
AGX_ORIN = {
    **hwmon("1-0040", 3, [("VDD_GPU_SOC", 20000, 120), ("VDD_CPU_CV", 20000, 80), ("VIN_SYS_5V0", 5000, 940)]),
    **hwmon("1-0041", 4, [NC, ("VDDQ_VDD2_1V8AO", 5000, 60), NC]),
}
THOR = {
    **hwmon("2-0040", 1, [("VDD_GPU", 20000, 300), ("VDD_CPU_SOC_MSS", 20000, 210), ("VIN_SYS_5V0", 5000, 830)]),
    "sys/bus/i2c/drivers/ina238/2-0044/hwmon/hwmon2/label": "VIN\n",
    "sys/bus/i2c/drivers/ina238/2-0044/hwmon/hwmon2/name": "ina238\n",
    "sys/bus/i2c/drivers/ina238/2-0044/hwmon/hwmon2/power1_input": "28906000\n",
    "sys/class/power_supply/ucsi-source-psy-1-00081/voltage_now": "20000000\n",
    "sys/class/power_supply/ucsi-source-psy-1-00081/current_now": "3000000\n",
}
AGX_XAVIER_4 = {
    **iio("1-0040", 0, [("GPU", 0), ("CPU", 216), ("SOC", 864)]),
    **iio("1-0041", 1, [("CV", 0), ("VDDRQ", 144), ("SYS5V", 1889)]),
}
TX2 = {
    **iio("0-0040", 0, [("VDD_SYS_GPU", 152), ("VDD_SYS_SOC", 687), ("VDD_4V0_WIFI", 0)]),
    **iio("0-0041", 1, [("VDD_IN", 3056), ("VDD_SYS_CPU", 152), ("VDD_SYS_DDR", 883)]),
    **iio("0-0042", 2, [("VDD_MUX", 5000), ("VDD_5V0_IO_SYS", 1500), ("VDD_3V3_SYS", 900)]),
    **iio("0-0043", 3, [("VDD_3V3_IO_SLP", 100), ("VDD_1V8_IO", 90), ("VDD_3V3_SYS_M2", 0)]),
}
NANO = iio("6-0040", 0, [("POM_5V_IN", 1750), ("POM_5V_GPU", 200), ("POM_5V_CPU", 366)])
NX_4 = iio("7-0040", 0, [("VDD_IN", 6140), ("VDD_CPU_GPU_CV", 2706), ("VDD_SOC", 1074)])
BOARDS: dict[str, tuple[str, Files, float]] = {
    "JetPack 4, Nano": ("NVIDIA Jetson Nano Developer Kit", NANO, 1.750),
    "JetPack 4, TX2": ("quill", TX2, 3.056),
    "JetPack 4, Xavier NX": ("NVIDIA Jetson Xavier NX Developer Kit", NX_4, 6.140),
    "JetPack 4, AGX Xavier": ("Jetson-AGX", AGX_XAVIER_4, 3.113),
    "JetPack 5, Xavier NX": ("NVIDIA Jetson Xavier NX Developer Kit", hwmon("7-0040", 6, NX), 6.0),
    "JetPack 5, AGX Orin": ("NVIDIA Jetson AGX Orin Developer Kit", AGX_ORIN, 8.7),
    "JetPack 6, Orin Nano": (
        "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit",
        hwmon("1-0040", 1, NX),
        6.0,
    ),
    "JetPack 6, Orin NX": ("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", hwmon("1-0040", 2, NX), 6.0),
    "JetPack 7, AGX Orin": ("NVIDIA Jetson AGX Orin Developer Kit", AGX_ORIN, 8.7),
}


@pytest.mark.parametrize("name", BOARDS)
def test_the_total_is_the_boards(name: str, tmp_path: Path) -> None:
    model, files, watts = BOARDS[name]
    root = tree(tmp_path, {MODEL: f"{model}\0", **files})
    meter = power.open_meter(root=root)
    assert (meter.source, meter.total.refusal) == ("ina", "")
    found = dict(zip(meter.rails, ina.Monitors(ina.channels(root)).read().values, strict=True))
    assert sum(found[rail] for rail in meter.total.rails) == pytest.approx(watts, rel=1e-9)


def sound(measure: Callable[[], power.Energy]) -> power.Energy:
    """The first measurement that the meter stands by: on a busy machine a thread may not get its turn for long."""
    for _ in range(10):
        found = measure()
        if not found.reasons:
            return found
    raise AssertionError(found.reasons)


def test_monitors_are_read_beside_what_is_measured(tmp_path: Path) -> None:
    root = tree(tmp_path, {MODEL: "NVIDIA Jetson AGX Orin Developer Kit\0", **AGX_ORIN})
    with power.open_meter(root=root, interval_s=0.02) as meter:
        found = sound(lambda: meter.idle(0.5))
        again = meter.energy(time.perf_counter() - 0.4, time.perf_counter() - 0.1, idle=found)
    assert found.average_w == pytest.approx(8.7, rel=1e-9)
    assert found.peak_w == pytest.approx(8.7, rel=1e-9)
    assert found.covers == "Jetson AGX Orin module: VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"
    assert again.idle_w == pytest.approx(8.7, rel=1e-9)
    assert 0 < found.cpu_share < 1
    late = meter.energy(time.perf_counter() - 10.0, time.perf_counter() + 10.0)
    assert late.joules is None


def test_thor_prints_its_rails_and_refuses_a_total(tmp_path: Path) -> None:
    root = tree(tmp_path, {MODEL: "NVIDIA Jetson AGX Thor Developer Kit\0", **THOR})
    with power.open_meter("ina", root=root, interval_s=0.01) as meter:
        time.sleep(0.2)
        found = meter.idle(0.3)
    assert found.joules is None
    assert found.rails is not None
    watts = {rail: joules / found.seconds for rail, joules in found.rails.items()}
    assert watts == pytest.approx({"VDD_GPU": 6.0, "VDD_CPU_SOC_MSS": 4.2, "VIN_SYS_5V0": 4.15, "VIN": 28.906})
    assert "no source says" in found.reasons[0]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (
            {MODEL: "NVIDIA Jetson Orin Mega\0", **AGX_ORIN},
            "the board 'NVIDIA Jetson Orin Mega' is not known: its rails",
        ),
        (AGX_ORIN, "does not say which it is"),
        ({MODEL: "NVIDIA Jetson Orin NX\0", **AGX_ORIN}, "needs VDD_IN, which is not among VDD_GPU_SOC"),
        # Two monitors that give one name: which of them is meant cannot be told.
        (
            {MODEL: "NVIDIA Jetson Orin NX\0", **hwmon("1-0040", 1, NX), **hwmon("1-0041", 2, NX)},
            "needs VDD_IN, which is not among VDD_IN (1-0040)",
        ),
        (
            {MODEL: "NVIDIA Jetson Orin NX\0", **hwmon("1-0040", 1, [("NC", 5000, 9), *NX[1:]])},
            "needs VDD_IN, which is not among VDD_CPU_GPU_CV, VDD_SOC",
        ),
    ],
)
def test_no_total_is_guessed(files: Files, reason: str, tmp_path: Path) -> None:
    meter = power.open_meter("ina", root=tree(tmp_path, files))
    assert meter.rails
    assert reason in meter.total.refusal
    assert meter.total.rails == ()


@pytest.mark.parametrize("text", ["", "5 V", "nan", "5_000", "٥", "0x10", "5.0"])
def test_a_file_without_a_number_is_an_error(text: str, tmp_path: Path) -> None:
    root = tree(tmp_path, {MODEL: "NVIDIA Jetson Orin NX\0", **hwmon("1-0040", 1, NX)})
    (root / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in1_input").write_text(text)
    with pytest.raises(DeviceError, match="not a whole number"):
        power.open_meter("ina", root=root)


@settings(max_examples=10_000)
@given(st.text(max_size=30) | st.text("0123456789-+_. \n٥", max_size=12))
def test_arbitrary_text_gives_no_wrong_number(text: str) -> None:
    try:
        number = parse_number(text)
    except ValueError:
        return
    digits = text.removesuffix("\n").removeprefix("-")
    assert set(digits) <= set("0123456789")
    assert number == (-1) ** text.startswith("-") * sum(
        "0123456789".index(d) * 10**k for k, d in enumerate(reversed(digits))
    )


def test_a_channel_that_is_off_is_no_rail(tmp_path: Path) -> None:
    root = tree(tmp_path, hwmon("1-0040", 1, NX))
    (root / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in3_enable").write_text("0\n")
    assert [channel.label for channel in ina.channels(root)] == ["VDD_IN", "VDD_CPU_GPU_CV"]


def test_readings_that_fail_leave_a_gap_and_are_told(tmp_path: Path) -> None:
    root = tree(tmp_path, {MODEL: "NVIDIA Jetson Orin NX\0", **hwmon("1-0040", 1, NX)})
    file = root / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in1_input"
    with power.open_meter("ina", root=root, interval_s=0.01) as meter:
        start = time.perf_counter()
        time.sleep(0.3)
        file.rename(file.with_suffix(".away"))
        time.sleep(0.4)
        file.with_suffix(".away").rename(file)
        time.sleep(0.2)
        found = meter.energy(start + 0.02, time.perf_counter())
    assert found.joules is None
    assert any("readings failed" in reason for reason in found.reasons)


def domain(name: str, folder: str, microjoules: int, most: int = 262_143_328_850) -> Files:
    base = f"sys/class/powercap/{folder}"
    return {
        f"{base}/name": f"{name}\n",
        f"{base}/energy_uj": f"{microjoules}\n",
        f"{base}/max_energy_range_uj": f"{most}\n",
    }


INTEL = {
    **domain("package-0", "intel-rapl:0", 1_000_000),
    **domain("core", "intel-rapl:0:0", 500_000),
    **domain("dram", "intel-rapl:0:1", 200_000, 65_712_999_613),
    **domain("package-1", "intel-rapl:1", 2_000_000),
    **domain("core", "intel-rapl:1:0", 1_000_000),
    **domain("psys", "intel-rapl:2", 9_000_000),
    **domain("package-0", "intel-rapl-mmio:0", 1_000_000),
}
AMD = {**domain("package-0", "intel-rapl:0", 65_532_000_000, 65_532_610_987), **domain("core", "intel-rapl:0:0", 5)}


def rapl_energy(root: Path, watts: dict[str, float]) -> power.Energy:
    """Two seconds of counters that rise by so many watts by folder, and start again from 0 where their range ends."""
    counters, total = rapl.Counters(rapl.domains(root)), power.open_meter("rapl", root=root).total
    folders = {root / f"sys/class/powercap/{name}": rate for name, rate in watts.items()}
    first = {folder: int((folder / "energy_uj").read_text()) for folder in folders}
    most = {folder: int((folder / "max_energy_range_uj").read_text()) for folder in folders}
    times, readings = np.linspace(100, 102, 41), []
    for moment in times:
        for folder, rate in folders.items():
            joules = (first[folder] + int(1e6 * rate * (moment - 100))) % most[folder]
            (folder / "energy_uj").write_text(f"{joules}\n")
        readings.append(counters.read().values)
    assert counters.ranges is not None
    values, problems = unwrap(times, np.array(readings), np.array(counters.ranges))
    trace = Trace(counters.rails, times, values, counter=True, problems=problems)
    return power.Meter(Recorded(trace, total)).energy(100.33, 101.77)


def test_packages_are_summed_and_what_lies_in_them_is_not(tmp_path: Path) -> None:
    watts = {"intel-rapl:0": 20.0, "intel-rapl:0:0": 12.0, "intel-rapl:0:1": 3.0, "intel-rapl:1": 10.0,
             "intel-rapl:2": 50.0, "intel-rapl-mmio:0": 20.0}  # fmt: skip
    found = rapl_energy(tree(tmp_path, INTEL), watts)
    assert found.reasons == ()
    assert found.total_rails == ("package-0", "package-1")
    assert found.average_w == pytest.approx(30.0, rel=1e-3)
    assert found.rails is not None
    assert list(found.rails) == ["package-0", "package-0/core", "package-0/dram", "package-1", "package-1/core", "psys"]
    assert found.rails["psys"] / found.seconds == pytest.approx(50.0, rel=1e-3)


def test_a_counter_that_starts_again_goes_on(tmp_path: Path) -> None:
    found = rapl_energy(tree(tmp_path, AMD), {"intel-rapl:0": 2.0, "intel-rapl:0:0": 1.0})
    assert found.reasons == ()
    assert int((tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").read_text()) < 10_000_000
    assert found.average_w == pytest.approx(2.0, rel=1e-3)


def test_a_counter_that_stands_still_is_no_energy(tmp_path: Path) -> None:
    with power.open_meter("rapl", root=tree(tmp_path, INTEL), interval_s=0.01) as meter:
        found = meter.idle(0.2)
    assert found.joules is None
    assert found.reasons == ("the counter did not move",)


def test_two_domains_of_one_name_are_refused(tmp_path: Path) -> None:
    root = tree(tmp_path, {**domain("package-0", "intel-rapl:0", 1), **domain("package-0", "intel-rapl:1", 1)})
    with pytest.raises(DeviceError, match="names a domain twice"):
        power.open_meter("rapl", root=root)


def test_counters_that_only_root_reads_name_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    root = tree(tmp_path, INTEL)
    with pytest.raises(DeviceError, match="only root may read the energy counters: sudo chmod a\\+r"):
        power.open_meter("rapl", root=root)
    seen = power.look("rapl", root)
    assert seen is not None
    assert not seen.ok


@pytest.mark.skipif(not any(Path("/sys/class/powercap").glob("intel-rapl:*/energy_uj")), reason="no RAPL here")
def test_this_machines_own_counters() -> None:
    seen = power.look("rapl")
    assert seen is not None
    if not seen.ok:
        pytest.skip(seen.found)
    with power.open_meter("rapl") as meter:
        start = time.perf_counter()
        while time.perf_counter() < start + 1:
            os.getpid()
        found = meter.energy(start, start + 1)
    assert found.average_w is not None
    assert 0.1 < found.average_w < 2000


def test_which_meter_when_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no power meter"):
        power.open_meter(root=tmp_path)
    assert power.open_meter(root=tree(tmp_path, INTEL)).source == "rapl"
    tree(tmp_path, {"usr/bin/tegrastats": ""})
    with pytest.raises(InputError, match="name one of rapl, tegrastats"):
        power.open_meter(root=tmp_path)
    assert power.open_meter(root=tree(tmp_path, NANO)).source == "ina"


@pytest.mark.parametrize("source", ["", "ina3221", "_csv", "ina:5", "rapl:x", "csv:", "csv:nowhere.csv", "nvml:x"])
def test_a_meter_that_is_none(source: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        power.open_meter(source, root=tmp_path)


@pytest.mark.parametrize("interval", [0.0, -1.0, float("nan"), float("inf")])
def test_an_interval_that_is_none(interval: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be positive"):
        power.open_meter("ina", interval_s=interval, root=tree(tmp_path, NANO))


def test_doctor_tells_each_meter(tmp_path: Path) -> None:
    root = tree(tmp_path, {MODEL: "NVIDIA Jetson Nano\0", **NANO, **INTEL})
    found = {finding.name: finding for finding in _machine.findings(root) if finding.kind == "power"}
    assert list(found) == ["power: ina", "power: nvml", "power: rapl", "power: tegrastats"]
    assert found["power: ina"].found == "POM_5V_IN, POM_5V_GPU, POM_5V_CPU; total: POM_5V_IN"
    assert found["power: rapl"].ok
    assert not found["power: tegrastats"].ok
