"""Which Jetson this is, from the files that Jetson Linux keeps. A form that is not known reads as None: no guesses.

``root`` is where ``etc``, ``proc``, ``sys`` and ``var`` are found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgeseg import boards
from edgeseg.boards import Board, JetPack

ROOT = Path("/")
MODEL = "sys/firmware/devicetree/base/model"
RELEASE = "etc/nv_tegra_release"
CHANNELS = ("1", "2", "3")  # a fourth label is the sum of shunt voltages


@dataclass(frozen=True)
class Jetson:
    """``model``: as its device tree says. ``l4t``: its release, as in 36.4.3. ``jetpack``: its packages, ``number``
    its name. ``power_mode``: nvpmodel's name of it. ``rails``: labels of the power monitors found."""

    model: str
    board: Board | None
    l4t: str | None
    jetpack: JetPack | None
    number: str | None
    power_mode: str | None
    rails: tuple[str, ...]


@dataclass(frozen=True)
class Memory:
    """Bytes: all there is, what programs could have without swapping, and free swap."""

    total: int
    available: int
    swap: int


def detect(root: Path = ROOT) -> Jetson | None:
    """None on a machine that is no Jetson: it has neither an L4T release nor a Jetson's name."""
    name, text = model(root), _read(root / RELEASE)
    board = boards.identify(name)
    if text is None and board is None and "Jetson" not in name:
        return None
    l4t = parse_release(text or "")
    known = boards.release(l4t) if l4t else None
    jetpack, number = known or (None, None)
    return Jetson(name, board, l4t, jetpack, number, power_mode(root), rails(root))


def model(root: Path = ROOT) -> str:
    """The board's name, as its device tree says; empty without one."""
    return (_read(root / MODEL) or "").strip("\0\n ")


def parse_release(text: str) -> str | None:
    """``# R36 (release), REVISION: 4.3, GCID: …`` → 36.4.3."""
    match = re.match(r"# R([0-9]+) \(release\), REVISION: ([0-9]+(?:\.[0-9]+)*),", text)
    return f"{match[1]}.{match[2]}" if match else None


def power_mode(root: Path = ROOT) -> str | None:
    """The name of nvpmodel's mode, from its state (``pmode:0002``) and its table; no rights are needed."""
    state = re.match(r"pmode:([0-9]+)(?:\s|$)", _read(root / "var/lib/nvpmodel/status") or "")
    names = parse_modes(_read(root / "etc/nvpmodel.conf") or "")
    return names.get(int(state[1])) if state else None


def parse_modes(text: str) -> dict[int, str]:
    """``< POWER_MODEL ID=0 NAME=MAXN >`` → {0: "MAXN"}; comments are left out."""
    found = re.findall(r"^<\s*POWER_MODEL\s+ID=([0-9]+)\s+NAME=([^\s>]+)\s*>", text, re.MULTILINE)
    return {int(number): name for number, name in found}


def rails(root: Path = ROOT) -> tuple[str, ...]:
    """Labels of the INA3221 channels, in the order of their addresses: JetPack 5 and later, else JetPack 4."""
    drivers = root / "sys/bus/i2c/drivers"
    now = [p for k in CHANNELS for p in (drivers / "ina3221").glob(f"*/hwmon/hwmon*/in{k}_label")]
    before = [p for k in "012" for p in (drivers / "ina3221x").glob(f"*/iio:device*/rail_name_{k}")]
    labels = [(_read(path) or "").strip() for path in sorted(now or before)]
    return tuple(label for label in labels if label not in ("", "NC"))


def memory(root: Path = ROOT) -> Memory | None:
    return parse_memory(_read(root / "proc/meminfo") or "")


def parse_memory(text: str) -> Memory | None:
    """``/proc/meminfo``; None where a line is missing or is not in kB."""
    found = {}
    for name in ("MemTotal", "MemAvailable", "SwapFree"):
        match = re.search(rf"^{name}:\s+([0-9]+) kB$", text, re.MULTILINE)
        if match is None:
            return None
        found[name] = int(match[1]) * 1024
    return Memory(found["MemTotal"], found["MemAvailable"], found["SwapFree"])


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
