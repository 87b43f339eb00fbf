"""What this machine says of its NVIDIA parts, without a call into a driver that, where it is not there, may crash.

``root`` is where ``etc``, ``proc``, ``sys``, ``usr`` and ``var`` are found.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from edgeseg import jetson

ROOT = Path("/")


def driver(root: Path = ROOT) -> str | None:
    """The version of the NVIDIA kernel driver, or None where none is loaded."""
    match = re.search(r"Kernel Module[^\n]*?\s([0-9]+\.[0-9.]+)\s", _read(root / "proc/driver/nvidia/version"))
    return match[1] if match else _read(root / "sys/module/nvidia/version").strip() or None


def cuda(root: Path = ROOT) -> str | None:
    """The version of the CUDA toolkit in its usual place, or None."""
    folder = root / "usr/local/cuda"
    try:
        return str(json.loads(_read(folder / "version.json"))["cuda"]["version"])
    except (ValueError, KeyError, TypeError):
        match = re.match(r"CUDA Version ([0-9.]+)", _read(folder / "version.txt"))  # until CUDA 11.0
        return match[1] if match else None


def present(root: Path = ROOT) -> bool:
    """Whether there is a GPU of NVIDIA's: a driver is loaded, here or in the Windows around it, or this is a Jetson."""
    return driver(root) is not None or (root / "dev/dxg").exists() or jetson.detect(root) is not None


def capability(root: Path = ROOT) -> str | None:
    """The compute capability of the first GPU, as "8.7": a Jetson's by its board, others' by ``nvidia-smi``."""
    here = jetson.detect(root)
    if here is not None:
        return ".".join(map(str, here.board.capability)) if here.board else None
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"\d+\.\d+$", (done.stdout.split() or [""])[0])
    return match[0] if match else None


def facts(root: Path = ROOT) -> dict[str, str]:
    """What a manifest's ``device`` keeps of the machine; what is not known is left out."""
    here = jetson.detect(root)
    found = {
        "driver": driver(root),
        "cuda": cuda(root),
        "board": here.board.name if here and here.board else None,
        "model": here.model if here else None,
        "l4t": here.l4t if here else None,
        "jetpack": here.number if here else None,
        "power_mode": here.power_mode if here else None,
    }
    return {name: value for name, value in found.items() if value}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
