"""The boards' data agree with each other; a board is told from its files, and what is not known is not guessed."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeseg import boards, jetson
from edgeseg.boards import BOARDS, JETPACKS, Board
from edgeseg.errors import InputError

NAMES = [b.name for b in BOARDS]
RELEASE = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025"
)
ORIN_NANO = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
# As real boards say it.
MODELS = {
    ORIN_NANO: "orin-nano",
    "NVIDIA Jetson Orin Nano Developer Kit": "orin-nano",
    "NVIDIA Jetson Orin NX Engineering Reference Developer Kit Super": "orin-nx",
    "NVIDIA Jetson AGX Orin Developer Kit": "agx-orin",
    "NVIDIA Jetson AGX Thor Developer Kit": "thor",
    "NVIDIA Jetson Xavier NX Developer Kit": "xavier-nx",
    "Jetson-AGX": "agx-xavier",
    "NVIDIA Jetson Nano Developer Kit": "nano",
    "quill": "tx2",
    "NVIDIA Jetson TX2 NX Developer Kit": None,
    "Raspberry Pi 5 Model B Rev 1.0": None,
    "": None,
}


@pytest.mark.parametrize("each", BOARDS, ids=NAMES)
def test_a_board_is_consistent(each: Board) -> None:
    known = [j.version for j in JETPACKS]
    assert list(each.jetpacks) == sorted(each.jetpacks, key=known.index)
    assert set(each.total or ()) <= set(each.rails)
    assert len(set(each.modes)) == len(each.modes)
    assert list(each.memory_gib) == sorted(each.memory_gib)
    assert set(each.sources) == {f.name for f in fields(each)} - {"name", "title", "model", "sources"}
    assert all(each.sources.values())


def test_board_names_and_releases_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES)
    releases = [l4t for j in JETPACKS for l4t, _ in j.releases]
    assert len(set(releases)) == len(releases)
    assert [j.generation for j in JETPACKS] == sorted(j.generation for j in JETPACKS)
    assert all(j.source for j in JETPACKS)


@pytest.mark.parametrize(("model", "name"), MODELS.items())
def test_a_board_is_known_by_its_model(model: str, name: str | None) -> None:
    found = boards.identify(model)
    assert (found.name if found else None) == name


def test_the_newest_jetpack_that_fits() -> None:
    orin = boards.board("agx-orin")
    asked = (None, "5", "5.1.2", "6", "6.0", "6.1", "6.2.1", "7", "7.2", "7.2.2")
    assert [boards.jetpack(orin, v).tensorrt for v in asked] == [
        "11.4.1", "8.5.2", "8.5.2", "10.3.0", "8.6.2", "10.3.0", "10.3.0", "11.4.1", "10.16.2", "11.4.1",
    ]  # fmt: skip
    assert boards.jetpack(boards.board("orin-nano"), None).version == "7.2"


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("orin", None, "unknown board 'orin': use one of orin-nano, "),
        ("thor", "6", "Jetson Thor takes no JetPack '6' that is known here: use one of 7.1, 7.2, 7.2.2"),
        ("orin-nx", "7.2.2", "use one of 5.1, 6.0, 6.2, 7.2"),
        ("orin-nx", "", "takes no JetPack ''"),
        ("nano", None, "has TensorRT 8.2.1, which takes no uint8 frames: at least 8.5 is needed"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, version: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        boards.jetpack(boards.board(name), version)


@pytest.mark.parametrize(
    ("text", "l4t"),
    [
        (RELEASE, "36.4.3"),
        ("# R32 (release), REVISION: 7.1, GCID: 29689809, BOARD: t186ref, EABI: aarch64", "32.7.1"),
        ("# R39 (release), REVISION: 2.0, GCID: 1, BOARD: generic\n# KERNEL_VARIANT: oot\n", "39.2.0"),
        ("R36 (release), REVISION: 4.3, GCID", None),
        ("# R36 (beta), REVISION: 4.3, GCID", None),
        ("# R36 (release), REVISION: x, GCID", None),
        ("# R36 (release), REVISION: 4.3", None),
    ],
)
def test_release(text: str, l4t: str | None) -> None:
    assert jetson.parse_release(text) == l4t


@given(st.text())
def test_any_other_text_is_no_release(text: str) -> None:
    assert jetson.parse_release(text) is None


@given(st.integers(20, 99), st.lists(st.integers(0, 99), min_size=1, max_size=3))
def test_every_release_of_the_form_is_read(major: int, revision: list[int]) -> None:
    dotted = ".".join(map(str, revision))
    assert jetson.parse_release(f"# R{major} (release), REVISION: {dotted}, GCID: 0") == f"{major}.{dotted}"


MEMINFO = "MemTotal:        7620216 kB\nMemFree:          321 kB\nMemAvailable:    5011228 kB\nSwapFree:  3810104 kB\n"


def test_memory() -> None:
    assert jetson.parse_memory(MEMINFO) == jetson.Memory(7620216 << 10, 5011228 << 10, 3810104 << 10)


@pytest.mark.parametrize("name", ["MemTotal", "MemAvailable", "SwapFree"])
@pytest.mark.parametrize("form", ["", "{name}: 12 MB\n", "{name}: x kB\n", "{name}: -1 kB\n", "{name}: 12\n"])
def test_memory_of_another_form_is_not_guessed(name: str, form: str) -> None:
    lines = [form.format(name=name) if line.startswith(name) else line for line in MEMINFO.splitlines(keepends=True)]
    assert jetson.parse_memory("".join(lines)) is None


@given(st.text())
def test_any_other_text_is_no_memory(text: str) -> None:
    assert jetson.parse_memory(text) is None


@given(st.dictionaries(st.integers(0, 20), st.from_regex(r"[A-Z0-9_]{1,20}", fullmatch=True)), st.text("# <>\n"))
def test_power_modes(modes: dict[int, str], noise: str) -> None:
    lines = [f"< POWER_MODEL ID={number} NAME={name} >\nCPU_ONLINE CORE_0 1" for number, name in modes.items()]
    text = f"# < POWER_MODEL ID=99 NAME=COMMENT >\n{noise}\n" + "\n".join(lines)
    assert jetson.parse_modes(text) == modes


def tree(root: Path, files: dict[str, str]) -> Path:
    """A machine's files under ``root``."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


HWMON = "sys/bus/i2c/drivers/ina3221/1-004{}/hwmon/hwmon{}/in{}_label"
JETPACK_6 = {
    "sys/firmware/devicetree/base/model": f"{ORIN_NANO}\0",
    "etc/nv_tegra_release": RELEASE,
    "var/lib/nvpmodel/status": "pmode:0002\n",
    "etc/nvpmodel.conf": "".join(
        f"< POWER_MODEL ID={i} NAME={n} >\n" for i, n in enumerate(("15W", "25W", "MAXN_SUPER"))
    ),
    HWMON.format(0, 1, 1): "VDD_IN\n",
    HWMON.format(0, 1, 2): "VDD_CPU_GPU_CV\n",
    HWMON.format(0, 1, 3): "VDD_SOC\n",
    HWMON.format(0, 1, 7): "sum of shunt voltages\n",
    HWMON.format(1, 2, 1): "NC\n",
}


def test_a_jetson_is_told_from_its_files(tmp_path: Path) -> None:
    found = jetson.detect(tree(tmp_path, JETPACK_6))
    assert found is not None
    assert found.board is not None
    assert found.jetpack is not None
    assert (found.model, found.board.name, found.l4t) == (ORIN_NANO, "orin-nano", "36.4.3")
    assert (found.jetpack.tensorrt, found.number, found.power_mode) == ("10.3.0", "6.2", "MAXN_SUPER")
    assert found.rails == found.board.rails


def test_jetpack_4s_monitors(tmp_path: Path) -> None:
    device = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_{}"
    names = ("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU")
    tree(tmp_path, {device.format(i): f"{name}\n" for i, name in enumerate(names)})
    assert jetson.rails(tmp_path) == boards.board("nano").rails


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"etc/nv_tegra_release": "something new"}, ("", None, None, None)),
        ({"etc/nv_tegra_release": RELEASE.replace("4.3", "9.9")}, ("", None, "36.9.9", None)),
        (
            {"sys/firmware/devicetree/base/model": "NVIDIA Jetson Orin Mega\0"},
            ("NVIDIA Jetson Orin Mega", None, None, None),
        ),
        ({"etc/nv_tegra_release": RELEASE, "var/lib/nvpmodel/status": "2"}, ("", None, "36.4.3", None)),
    ],
)
def test_what_is_not_known_is_none(files: dict[str, str], expected: tuple[object, ...], tmp_path: Path) -> None:
    found = jetson.detect(tree(tmp_path, files))
    assert found is not None
    assert (found.model, found.board, found.l4t, found.power_mode) == expected


def test_another_machine_is_no_jetson(tmp_path: Path) -> None:
    assert jetson.detect(tmp_path) is None
    assert jetson.detect(tree(tmp_path, {"sys/firmware/devicetree/base/model": "Raspberry Pi 5\0"})) is None
