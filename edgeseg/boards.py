"""The Jetson boards: what each has and which JetPacks it takes, as data with its sources. No dependencies.

What no source settles is None or left out; nothing here is guessed. A board's own files come first where they tell
(edgeseg.jetson): its power modes in ``/etc/nvpmodel.conf``, its rails under ``/sys``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgeseg.errors import InputError

META_TEGRA = "github.com/OE4T/meta-tegra"
JTOP = "github.com/rbonghi/jetson_stats jtop/core/jetson_variables.py, f41d5ca"
RAILS = "github.com/energymon/energymon jetson/JetsonPowerRails.md, b24da67"
TENSORRT_11 = "docs.nvidia.com/deeplearning/tensorrt/11.4.1/api/migration/tensorrt-10x-to-11x-jetson.html"
THOR_LINES = "tegrastats of L4T R38.4"
CONTAINERS = "github.com/dusty-nv/jetson-containers"


@dataclass(frozen=True)
class JetPack:
    """JetPacks with the same packages. ``releases``: each L4T release and its JetPack's own number. ``python`` is the
    system's, to which TensorRT's bindings belong. ``dla``: whether this TensorRT compiles for DLA."""

    version: str
    releases: tuple[tuple[str, str], ...]
    tensorrt: str
    cuda: str | None
    python: str
    dla: bool
    source: str

    @property
    def generation(self) -> tuple[int, int]:
        """TensorRT's major and minor version."""
        major, minor = self.tensorrt.split(".")[:2]
        return int(major), int(minor)


@dataclass(frozen=True)
class Board:
    """``model``: a pattern that ``/sys/firmware/devicetree/base/model`` has on this board and on no other here.

    ``memory_gib``: of the modules sold; ``dla``: cores of the largest. ``rails``: what its monitors measure; ``total``:
    the rails whose sum is the module's power, None where no source says. ``modes``: names in nvpmodel's order.
    ``jetpacks``: oldest to newest. ``sources``: part → where it is from.
    """

    name: str
    title: str
    model: str
    capability: tuple[int, int]
    memory_gib: tuple[int, ...]
    dla: int
    jetpacks: tuple[str, ...]
    rails: tuple[str, ...]
    total: tuple[str, ...] | None
    modes: tuple[str, ...]
    sources: dict[str, str]


JETPACKS = (
    JetPack(
        "4.6", tuple((f"32.7.{i}", f"4.6.{i}") for i in range(1, 7)), "8.2.1", "10.2", "3.6", True,
        f"{META_TEGRA} branch kirkstone-l4t-r32.7.x; {JTOP}",
    ),
    JetPack(
        "5.1",
        (
            ("35.2.1", "5.1"), ("35.3.1", "5.1.1"), ("35.4.1", "5.1.2"), ("35.5.0", "5.1.3"), ("35.6.0", "5.1.4"),
            ("35.6.1", "5.1.5"), ("35.6.2", "5.1.5"), ("35.6.3", "5.1.5"), ("35.6.4", "5.1.6"),
        ),
        "8.5.2", "11.4", "3.8", True,
        f"{META_TEGRA} branches langdale, scarthgap-l4t-r35.x; {JTOP}",
    ),
    JetPack(
        "6.0", (("36.3.0", "6.0"),), "8.6.2", "12.2", "3.10", True,
        f"{CONTAINERS} deprecated/cuda/tensorrt/config.py (8.6.2, CUDA 12.2); {JTOP}",
    ),
    JetPack(
        "6.2",
        (
            ("36.4.0", "6.1"), ("36.4.2", "6.1"), ("36.4.3", "6.2"), ("36.4.4", "6.2.1"), ("36.4.7", "6.2.1"),
            ("36.5.0", "6.2.2"),
        ),
        "10.3.0", "12.6", "3.10", True,
        f"{META_TEGRA} branches styhead, walnascar, scarthgap; {JTOP}",
    ),
    JetPack(
        "7.1", (("38.2.0", "7.0"), ("38.2.1", "7.0"), ("38.2.2", "7.0"), ("38.4.0", "7.1")),
        "10.13.3", "13.0", "3.12", False,
        f"{META_TEGRA} branches master-l4t-r38.2.x, master-l4t-r38.4.x; {JTOP}",
    ),
    # TensorRT 10.7 was the last to compile for DLA before 11.4.1, which again does on AGX Orin alone (TENSORRT_11).
    JetPack(
        "7.2", (("39.2.0", "7.2"),), "10.16.2", "13.2", "3.12", False,
        f"{META_TEGRA} branch master, d5d93dc; {JTOP}; DLA: docs of TensorRT 11.3.0 on Jetson",
    ),
    JetPack("7.2.2", (), "11.4.1", None, "3.12", True, TENSORRT_11),  # its L4T: in no source found
)  # fmt: skip

ORIN_NX_RAILS = ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")
AGX_XAVIER_RAILS = ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")
NVIDIA_TABLE = "NVIDIA's table of Jetson modules, as in wiki.seeedstudio.com's pages of the reComputer"

BOARDS = (
    Board(
        "orin-nano", "Jetson Orin Nano", r"Orin Nano", (8, 7), (4, 8), 0, ("5.1", "6.0", "6.2", "7.2"),
        ORIN_NX_RAILS, ("VDD_IN",), ("15W", "25W", "MAXN_SUPER"),
        {
            "capability": JTOP, "memory_gib": JTOP, "dla": NVIDIA_TABLE, "jetpacks": META_TEGRA,
            "rails": "tegrastats of JetPack 6", "total": "jetson_stats issue 51; forum thread 242804",
            "modes": "nvpmodel_p3767_0003_super.conf of L4T 36.4.3 (8 GB module); 15W and 7W before",
        },
    ),
    Board(
        "orin-nx", "Jetson Orin NX", r"Orin NX", (8, 7), (8, 16), 2, ("5.1", "6.0", "6.2", "7.2"),
        ORIN_NX_RAILS, ("VDD_IN",), ("MAXN", "10W", "15W", "25W"),
        {
            "capability": JTOP, "memory_gib": JTOP, "dla": f"{NVIDIA_TABLE}: 2 on the 16 GB module, 1 on the 8 GB one",
            "jetpacks": META_TEGRA, "rails": "alumet's and jetson_stats' notes on Orin NX",
            "total": "forums.developer.nvidia.com thread 242804",
            "modes": "wiki.seeedstudio.com, nvpmodel.conf of the 16 GB module",
        },
    ),
    Board(
        "agx-orin", "Jetson AGX Orin", r"AGX Orin", (8, 7), (32, 64), 2, ("5.1", "6.0", "6.2", "7.2", "7.2.2"),
        ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
        ("MAXN", "MODE_15W", "MODE_30W", "MODE_50W"),
        {
            "capability": JTOP, "memory_gib": JTOP, "dla": "NVDLA0, NVDLA1 in tegrastats of L4T 36.4.4",
            "jetpacks": f"{META_TEGRA}; {TENSORRT_11}", "rails": RAILS,
            "total": f"{RAILS}: VIN_SYS_5V0 supplies VDDQ_VDD2_1V8AO, which is left out of the sum",
            "modes": "forums.developer.nvidia.com thread 323456 (devkit)",
        },
    ),
    Board(
        "thor", "Jetson Thor", r"AGX Thor", (11, 0), (64, 128), 0, ("7.1", "7.2", "7.2.2"),
        ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"), None, ("MAXN", "120W", "90W", "70W"),
        {
            "capability": JTOP, "memory_gib": "modules T4000 and T5000 in meta-tegra; NVIDIA's announcement",
            "dla": f"{TENSORRT_11}: Thor has none", "jetpacks": f"{META_TEGRA}; {TENSORRT_11}", "rails": THOR_LINES,
            "total": "none found that says how VIN (INA238) and the rails relate",
            "modes": "nvpmodel.conf of T5000, L4T R38",
        },
    ),
    Board(
        "xavier-nx", "Jetson Xavier NX", r"Xavier NX", (7, 2), (8, 16), 2, ("4.6", "5.1"),
        ORIN_NX_RAILS, ("VDD_IN",),
        (
            "MODE_15W_2CORE", "MODE_15W_4CORE", "MODE_15W_6CORE", "MODE_10W_2CORE", "MODE_10W_4CORE",
            "MODE_10W_DESKTOP", "MODE_20W_2CORE", "MODE_20W_4CORE", "MODE_20W_6CORE",
        ),
        {
            "capability": JTOP, "memory_gib": JTOP, "dla": "NVIDIA's data sheet of the module", "jetpacks": META_TEGRA,
            "rails": RAILS, "total": "jetson_stats issue 51", "modes": "nvpmodel -p --verbose of JetPack 5",
        },
    ),
    Board(
        "agx-xavier", "Jetson AGX Xavier", r"AGX Xavier|^Jetson-AGX$", (7, 2), (8, 16, 32, 64), 2, ("4.6", "5.1"),
        AGX_XAVIER_RAILS, AGX_XAVIER_RAILS, (),
        {
            "capability": JTOP, "memory_gib": JTOP, "dla": "NVIDIA's data sheet of the module", "jetpacks": META_TEGRA,
            "rails": RAILS, "total": f"{RAILS}: no parent rail; SYS5V and the other five have supplies of their own",
            "modes": "none read",
        },
    ),
    Board(
        "tx2", "Jetson TX2", r"Jetson TX2(?! NX)|^quill$", (6, 2), (4, 8), 0, ("4.6",),
        ("VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI", "VDD_IN", "VDD_SYS_CPU", "VDD_SYS_DDR"), ("VDD_IN",), (),
        {
            "capability": JTOP, "memory_gib": JTOP, "dla": "NVIDIA's data sheet of the module", "jetpacks": META_TEGRA,
            "rails": RAILS, "total": RAILS, "modes": "none read",
        },
    ),
    Board(
        "nano", "Jetson Nano", r"Jetson Nano", (5, 3), (2, 4), 0, ("4.6",),
        ("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"), ("POM_5V_IN",), ("MAXN", "5W"),
        {
            "capability": JTOP, "memory_gib": JTOP, "dla": "NVIDIA's data sheet of the module", "jetpacks": META_TEGRA,
            "rails": f"{RAILS}; the 2 GB module has no monitor", "total": "jetson_stats issue 51",
            "modes": "nvpmodel_t210_jetson-nano.conf",
        },
    ),
)  # fmt: skip
LEAST = (8, 5)  # TensorRT before it takes no uint8 frame


def board(name: str) -> Board:
    """Raises InputError for a name that is none."""
    for found in BOARDS:
        if found.name == name:
            return found
    raise InputError(f"unknown board '{name}': use one of {', '.join(b.name for b in BOARDS)}")


def identify(model: str) -> Board | None:
    """The board whose device tree says ``model``; None where none or more than one fits."""
    found = [b for b in BOARDS if re.search(b.model, model)]
    return found[0] if len(found) == 1 else None


def release(l4t: str) -> tuple[JetPack, str] | None:
    """The JetPack of an L4T release, and its own number; None of one that is not in the table."""
    for jetpack in JETPACKS:
        for known, number in jetpack.releases:
            if known == l4t:
                return jetpack, number
    return None


def jetpack(of: Board, version: str | None) -> JetPack:
    """The JetPack ``version`` (6, 6.2, 6.2.1, …) of a board: the newest that fits; of all, where None is given.

    Raises:
        InputError: one that is none, that the board does not take, or whose TensorRT is too old.
    """
    taken = [j for j in JETPACKS if j.version in of.jetpacks]
    exact = [j for j in taken if version in _names(j)]
    found = exact or [j for j in taken if version is None or any(n.startswith(f"{version}.") for n in _names(j))]
    if not found:
        names = ", ".join(j.version for j in taken)
        raise InputError(f"{of.title} takes no JetPack '{version}' that is known here: use one of {names}")
    if found[-1].generation < LEAST:
        raise InputError(
            f"JetPack {found[-1].version} on {of.title} has TensorRT {found[-1].tensorrt}, which takes no uint8 frames:"
            f" at least {'.'.join(map(str, LEAST))} is needed"
        )
    return found[-1]


def _names(jetpack: JetPack) -> set[str]:
    return {jetpack.version, *(number for _, number in jetpack.releases)}
