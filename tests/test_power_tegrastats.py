"""Lines of tegrastats: every form that was seen is read right, any other is refused, and no wrong number comes out.

Lines as in DataDog/datadog-agent jetson_test.go, lesomnus/tegra-exporter, rbonghi/jetson_stats, and as tegrastats
printed them in public reports.
"""

from __future__ import annotations

import stat
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeseg.benchmarks import power
from edgeseg.benchmarks.power.sources._tegrastats_line import parse
from edgeseg.errors import DeviceError, InputError

CPU12 = ",".join(["14%@2188"] * 12)
LINES: dict[str, tuple[str, dict[str, int]]] = {
    "JetPack 4, Nano": (
        "RAM 1923/3964MB (lfb 2x2MB) SWAP 191/1982MB (cached 6MB) IRAM 0/252kB(lfb 252kB) CPU [5%@1224,4%@1224,3%@1224,"
        "6%@1224] EMC_FREQ 0%@1600 GR3D_FREQ 0%@76 APE 25 PLL@37C CPU@40C PMIC@50C GPU@40C AO@45C thermal@40C "
        "POM_5V_IN 1750/1628 POM_5V_GPU 0/0 POM_5V_CPU 366/406",
        {"POM_5V_IN": 1750, "POM_5V_GPU": 0, "POM_5V_CPU": 366},
    ),
    "JetPack 4, Xavier NX": (
        "RAM 4412/7772MB (lfb 237x4MB) SWAP 139/3886MB (cached 2MB) CPU [9%@1190,6%@1190,6%@1190,5%@1190,4%@1190,"
        "8%@1267] EMC_FREQ 10%@1600 GR3D_FREQ 0%@1109 APE 150 MTS fg 1% bg 9% AO@41.5C GPU@43C PMIC@100C AUX@41.5C "
        "CPU@43.5C thermal@42.55C VDD_IN 6140/5510 VDD_CPU_GPU_CV 2706/2119 VDD_SOC 1074/1051",
        {"VDD_IN": 6140, "VDD_CPU_GPU_CV": 2706, "VDD_SOC": 1074},
    ),
    "JetPack 4, AGX Xavier": (
        "RAM 721/31927MB (lfb 7291x4MB) SWAP 0/15963MB (cached 0MB) CPU [2%@1190,0%@1190,0%@1190,0%@1190,off,off,off,"
        "off] EMC_FREQ 0%@665 GR3D_FREQ 0%@318 APE 150 MTS fg 0% bg 0% AO@37.5C GPU@37.5C Tdiode@40C PMIC@100C AUX@36C "
        "CPU@37.5C thermal@36.9C Tboard@37C GPU 0/0 CPU 216/216 SOC 864/864 CV 0/0 VDDRQ 144/144 SYS5V 1889/1889",
        {"GPU": 0, "CPU": 216, "SOC": 864, "CV": 0, "VDDRQ": 144, "SYS5V": 1889},
    ),
    "JetPack 4, TX2": (
        "RAM 2344/7852MB (lfb 1154x4MB) SWAP 0/3926MB (cached 0MB) CPU [2%@345,off,off,1%@345,0%@345,2%@345] EMC_FREQ "
        "4%@1600 GR3D_FREQ 0%@624 APE 150 PLL@37.5C MCPU@37.5C PMIC@100C Tboard@32C GPU@35C BCPU@37.5C thermal@36.5C "
        "Tdiode@34.25C VDD_IN 2003/2658 VDD_CPU 320/518 VDD_GPU 80/120 VDD_SOC 400/410 VDD_WIFI 0/0 VDD_DDR 240/348",
        {"VDD_IN": 2003, "VDD_CPU": 320, "VDD_GPU": 80, "VDD_SOC": 400, "VDD_WIFI": 0, "VDD_DDR": 240},
    ),
    "JetPack 4, TX2, without clocks and swap": (
        "RAM 6266/7860MB (lfb 1x1MB) CPU [20%@345,off,off,15%@345,15%@345,19%@345] EMC_FREQ 0% GR3D_FREQ 0% PLL@52C "
        "MCPU@52C PMIC@100C Tboard@50C GPU@51.5C BCPU@52C thermal@51.8C Tdiode@50C VDD_SYS_GPU 194/194 VDD_SYS_SOC "
        "389/389 VDD_4V0_WIFI 0/0 VDD_IN 2144/2144 VDD_SYS_CPU 194/194 VDD_SYS_DDR 288/288",
        {"VDD_SYS_GPU": 194, "VDD_SYS_SOC": 389, "VDD_4V0_WIFI": 0, "VDD_IN": 2144, "VDD_SYS_CPU": 194,
         "VDD_SYS_DDR": 288},
    ),
    "JetPack 4, TX1": (
        "RAM 1179/3983MB (lfb 120x4MB) IRAM 0/252kB(lfb 252kB) CPU [1%@102,4%@102,0%@102,0%@102] EMC_FREQ 7%@408 "
        "GR3D_FREQ 0%@76 APE 25 AO@42.5C CPU@37.5C GPU@39C PLL@37C Tdiode@42.75C PMIC@100C Tboard@42C thermal@38.5C "
        "VDD_IN 2532/2698 VDD_CPU 76/178 VDD_GPU 19/19",
        {"VDD_IN": 2532, "VDD_CPU": 76, "VDD_GPU": 19},
    ),
    "JetPack 5.1.2, Xavier NX": (
        "07-09-2024 13:31:31 RAM 3168/6851MB (lfb 2x4MB) SWAP 161/3426MB (cached 0MB) CPU [23%@1397,9%@1397] EMC_FREQ "
        "2%@204 GR3D_FREQ 0%@[114] VIC_FREQ 115 APE 150 AUX@45C CPU@46.5C thermal@45.4C VDD_IN 2763mW/2846mW "
        "VDD_CPU_GPU_CV 650mW/670mW VDD_SOC 650mW/711mW",
        {"VDD_IN": 2763, "VDD_CPU_GPU_CV": 650, "VDD_SOC": 650},
    ),
    "JetPack 5, AGX Orin": (
        "04-24-2023 00:01:24 RAM 1282/62795MB (lfb 15152x4MB) SWAP 0/31398MB (cached 0MB) CPU [0%@729,0%@729] EMC_FREQ "
        "0%@2133 GR3D_FREQ 0%@[0,0] VIC_FREQ 729 APE 174 CV0@-256C CPU@42.593C Tboard@32C GPU@-256C tj@44.343C "
        "VDD_GPU_SOC 2340mW/2340mW VDD_CPU_CV 390mW/390mW VIN_SYS_5V0 4025mW/4025mW NC 0mW/0mW VDDQ_VDD2_1V8AO "
        "301mW/301mW NC 0mW/0mW",
        {"VDD_GPU_SOC": 2340, "VDD_CPU_CV": 390, "VIN_SYS_5V0": 4025, "VDDQ_VDD2_1V8AO": 301},
    ),
    "JetPack 5, AGX Orin, two GPU clocks": (
        "04-24-2023 00:01:24 RAM 1282/62795MB (lfb 15152x4MB) SWAP 0/31398MB (cached 0MB) CPU [0%@729,0%@729] EMC_FREQ "
        "0%@2133 GR3D_FREQ 0%@0 GR3D2_FREQ 0%@0 VIC_FREQ 729 APE 174 CV0@-256C tj@42.593C VDD_GPU_SOC 2399mW/2399mW "
        "VDD_CPU_CV 400mW/400mW VIN_SYS_5V0 4032mW/4032mW NC 0mW/0mW VDDQ_VDD2_1V8AO 301mW/301mW NC 0mW/0mW",
        {"VDD_GPU_SOC": 2399, "VDD_CPU_CV": 400, "VIN_SYS_5V0": 4032, "VDDQ_VDD2_1V8AO": 301},
    ),
    "JetPack 6, AGX Orin (R36.4.4)": (
        f"05-09-2026 18:42:06 RAM 18207/62841MB (lfb 466x4MB) SWAP 86/31420MB (cached 0MB) CPU [{CPU12}] EMC_FREQ "
        "3%@2133 GR3D_FREQ 0%@[0,0] NVENC 79%@166 NVDEC off NVJPG off NVJPG1 off VIC 36%@115 OFA off NVDLA0 off NVDLA1 "
        "off PVA0_FREQ off APE 174 cpu@52.562C soc2@48.437C soc0@49.093C tj@52.562C soc1@49.656C VDD_GPU_SOC "
        "2412mW/2412mW VDD_CPU_CV 1607mW/1607mW VIN_SYS_5V0 4707mW/4707mW",
        {"VDD_GPU_SOC": 2412, "VDD_CPU_CV": 1607, "VIN_SYS_5V0": 4707},
    ),
    "JetPack 6, AGX Orin, wide": (
        "RAM 29114/30697MB (lfb 3x4MB)    SWAP 4915/15348MB (cached 1MB) CPU [3%@729,100%@2201] EMC_FREQ 1%@2133 "
        "GR3D_FREQ 10%@1300 NVENC      off  NVDEC    off NVJPG off VIC        off   APE           174        "
        "cpu@53.062C  gpu@47.812C    VDD_GPU_SOC 3205mW/3205mW VDD_CPU_CV 4405mW/4405mW VIN_SYS_5V0 5510mW/5510mW",
        {"VDD_GPU_SOC": 3205, "VDD_CPU_CV": 4405, "VIN_SYS_5V0": 5510},
    ),
    "JetPack 6, AGX Orin, not root": (
        "10-05-2026 21:03:35 RAM 5137/62841MB (lfb 2x4MB) SWAP 0/31420MB (cached 0MB) CPU [1%@729,25%@729] GR3D_FREQ "
        "0% cpu@52.875C soc2@48.656C soc0@49.062C tj@52.875C VDD_GPU_SOC 3178mW/3178mW VDD_CPU_CV 794mW/794mW "
        "VIN_SYS_5V0 4543mW/4543mW",
        {"VDD_GPU_SOC": 3178, "VDD_CPU_CV": 794, "VIN_SYS_5V0": 4543},
    ),
    "JetPack 6, Orin Nano": (
        "10-06-2026 12:00:01 RAM 2493/7620MB (lfb 1x4MB) SWAP 0/3810MB (cached 0MB) CPU [5%@729,3%@729] EMC_FREQ "
        "3%@2133 GR3D_FREQ 99%@[612] VIC off APE 200 cpu@45.5C tj@45.5C VDD_IN 5251mW/8535mW VDD_CPU_GPU_CV "
        "495mW/400mW VDD_SOC 1286mW/1200mW",
        {"VDD_IN": 5251, "VDD_CPU_GPU_CV": 495, "VDD_SOC": 1286},
    ),
    "JetPack 7.2, AGX Orin": (
        "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201] EMC_FREQ 3%@3199 GR3D_FREQ "
        "12%@[1300,1300] NVENC0 off NVDEC0 off NVJPG0 off NVJPG1 off VIC off OFA off NVDLA0 off NVDLA1 off PVA0_FREQ "
        "off APE 174 cpu@52.968C/52.968C soc2@48.406C/48.406C gpu@47.625C/47.625C VDD_GPU_SOC 5139mW/5139mW/5139mW "
        "VDD_CPU_CV 3268mW/3268mW/3268mW VIN_SYS_5V0 5500mW/5500mW/5500mW",
        {"VDD_GPU_SOC": 5139, "VDD_CPU_CV": 3268, "VIN_SYS_5V0": 5500},
    ),
    "JetPack 7, Thor (R38.4)": (
        "RAM 4722/125749MB (lfb 1x512kB) CPU [1%@972,off] EMC_FREQ 2%@4266 GR3D_FREQ @[0,0,0] NVENC0_FREQ @0 "
        "cpu@49.75C tj@51.218C VDD_GPU 0mW/0mW VDD_CPU_SOC_MSS 4165mW/4165mW VIN_SYS_5V0 4126mW/4126mW",
        {"VDD_GPU": 0, "VDD_CPU_SOC_MSS": 4165, "VIN_SYS_5V0": 4126},
    ),
    "JetPack 7.2, Thor under load": (
        "08-08-2026 21:00:39 RAM 8353/125749MB (lfb 31x4MB) CPU [90%@2601,75%@2601,off,7%@2601] EMC_FREQ 34%@4266 "
        "GR3D_FREQ 87%@[1574,1574,1574] NVENC0_FREQ @1691 VIC off cpu@58.25C/61.75C tj@66.625C/66.625C VDD_GPU "
        "37939mW/8660mW/37939mW VDD_CPU_SOC_MSS 30059mW/12281mW/30059mW VIN_SYS_5V0 15486mW/7424mW/15486mW VIN "
        "124486mW/36487mW/124486mW",
        {"VDD_GPU": 37939, "VDD_CPU_SOC_MSS": 30059, "VIN_SYS_5V0": 15486, "VIN": 124486},
    ),
    "JetPack 7.2, Thor, one clock of all cores": (
        "08-08-2026 20:58:23 RAM 3429/125749MB (lfb 120x4MB) CPU [0%,5%,off]@2601 EMC_FREQ @4266 GR3D_FREQ "
        "@[1574,1574,1574] cpu@49.75C/49.75C VDD_GPU 6330mW/6330mW/6330mW VIN 28906mW/14453mW/28906mW",
        {"VDD_GPU": 6330, "VIN": 28906},
    ),
}  # fmt: skip
CASES = settings(max_examples=10_000)
WHOLE = [line for line, _ in LINES.values()]


@pytest.mark.parametrize("name", LINES)
def test_every_form_that_was_seen(name: str) -> None:
    line, expected = LINES[name]
    assert parse(line) == expected
    assert parse(line + "\n") == expected


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("VDD_IN 5251mW/8535mW", "VDD_IN 5251mW", "unknown form 'VDD_IN 5251mW"),
        ("VDD_IN 5251mW/8535mW", "VDD_IN 5251", "unknown form"),
        ("VDD_IN 5251mW/8535mW", "VDD_IN 5251/8535", "in different forms"),
        ("VDD_IN 5251mW/8535mW", "VDD_IN 5.2W/8.5W", "unknown form"),
        ("VDD_IN 5251mW/8535mW", "VDD_IN -5mW/8535mW", "unknown form"),
        ("VDD_IN 5251mW/8535mW", "VDD_IN ٥٢٥١mW/8535mW", "unknown form"),
        ("VDD_SOC", "VDD_IN", "names the rail VDD_IN twice"),
        ("VDD_IN 5251mW/8535mW", "VDD_IN 5251mW/8535mW/5000mW", "third number is no maximum"),
        ("RAM 2493/7620MB", "2493/7620MB", "not a line of tegrastats"),
        ("VIC off", "NEWTHING 5", "unknown form 'NEWTHING 5"),
    ],
)
def test_another_form_is_refused(old: str, new: str, reason: str) -> None:
    line = LINES["JetPack 6, Orin Nano"][0]
    assert old in line
    with pytest.raises(InputError, match=reason):
        parse(line.replace(old, new))


def test_a_board_without_monitors_has_no_power() -> None:
    with pytest.raises(InputError, match="no power rail"):
        parse("RAM 1/2MB (lfb 2x2MB) CPU [5%@1224] EMC_FREQ 0%@1600 GR3D_FREQ 0%@76 APE 25 PLL@37C")


def agrees(line: str) -> bool:
    """Whether ``line`` is refused, or each number given stands in it as a word of its own behind its rail's name."""
    try:
        rails = parse(line)
    except InputError:
        return True
    words = line.split()
    following = dict(pairwise(words))
    return bool(rails) and all(
        following[rail].split("/")[0].removesuffix("mW").lstrip("0") == str(milliwatts).lstrip("0")
        for rail, milliwatts in rails.items()
    )


@CASES
@given(st.text(max_size=200))
def test_arbitrary_text_gives_no_wrong_number(text: str) -> None:
    assert agrees(text)


WORDS = sorted({word for line in WHOLE for word in line.split()})


@CASES
@given(st.lists(st.sampled_from(WORDS) | st.text("0123456789/mWC@%[],. VDN_", max_size=12), max_size=20))
def test_words_of_tegrastats_in_any_order_give_no_wrong_number(words: list[str]) -> None:
    assert agrees(" ".join(["RAM 1/2MB", *words]))


@settings(max_examples=2_000)
@given(st.sampled_from(sorted(LINES)), st.data())
def test_a_line_that_was_cut_gives_no_wrong_number(name: str, data: st.DataObject) -> None:
    line, expected = LINES[name]
    start = data.draw(st.integers(0, len(line)))
    cut = line[start : data.draw(st.integers(start, len(line)))]
    try:
        rails = parse(cut)
    except InputError:
        return
    assert rails.items() <= expected.items()


@settings(max_examples=2_000)
@given(st.sampled_from(sorted(LINES)), st.data())
def test_a_line_with_another_character_gives_no_wrong_number(name: str, data: st.DataObject) -> None:
    line = LINES[name][0]
    at = data.draw(st.integers(0, len(line) - 1))
    assert agrees(line[:at] + data.draw(st.characters() | st.sampled_from("0123456789/ mW@")) + line[at + 1 :])


def program(folder: Path, lines: list[str], pause: float = 0.02) -> Path:
    """A program that prints ``lines`` as tegrastats does, and then the last one for good."""
    path = folder / "usr/bin/tegrastats"
    path.parent.mkdir(parents=True, exist_ok=True)
    first = "".join(f"echo '{line}'; sleep {pause}\n" for line in lines)
    path.write_text(f"#!/bin/sh\n{first}while :; do echo '{lines[-1]}'; sleep {pause}; done\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return folder


def board(root: Path, model: str) -> Path:
    path = root / "sys/firmware/devicetree/base/model"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(model + "\0")
    return root


def test_a_running_tegrastats_is_integrated(tmp_path: Path) -> None:
    root = program(board(tmp_path, "NVIDIA Jetson Orin Nano Developer Kit"), [LINES["JetPack 6, Orin Nano"][0]])
    with power.open_meter("tegrastats", root=root) as meter:
        assert meter.rails == ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")
        time.sleep(0.1)
        for _ in range(10):  # on a busy machine the program may not get its turn for long
            found = meter.idle(0.6)
            if not found.reasons:
                break
    assert found.reasons == ()
    assert found.average_w == pytest.approx(5.251)
    assert found.total_rails == ("VDD_IN",)


@pytest.mark.parametrize("change", ["RAM 1/2MB NEWTHING 5 VDD_IN 1mW/1mW", "RAM 1/2MB VDD_IN 1mW/1mW"])
def test_a_form_that_changes_ends_the_measurement(change: str, tmp_path: Path) -> None:
    root = program(board(tmp_path, "NVIDIA Jetson Orin Nano"), [*[LINES["JetPack 6, Orin Nano"][0]] * 20, change])
    with power.open_meter("tegrastats", root=root) as meter:
        start = time.perf_counter()
        time.sleep(1.0)
        found = meter.energy(start, time.perf_counter())
    assert found.joules is None
    assert any("unknown form" in reason or "changed its rails" in reason for reason in found.reasons)


def test_tegrastats_that_says_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a line of tegrastats"):
        power.open_meter("tegrastats", root=program(tmp_path, ["Hello"]))
    with pytest.raises(DeviceError, match="no tegrastats"):
        power.open_meter("tegrastats", root=tmp_path / "none")
