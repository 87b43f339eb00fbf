"""What a TensorRT engine needs of NVIDIA's parts, and, on a Jetson, which one this is and in what state."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from edgeseg import jetson, nvidia
from edgeseg.cli._finding import Finding
from edgeseg.cli._packages import installed
from edgeseg.jetson import Jetson

ROOT = Path("/")
TRTEXEC = ("usr/bin/trtexec", "usr/src/tensorrt/bin/trtexec")  # since TensorRT 10.16; before
PYCUDA = "optional, its arrays are taken as they are: pip install pycuda (compiles for minutes)"
# Import name → the distributions that may bring it.
TENSORRT = {"tensorrt": ("tensorrt",), "tensorrt_rtx": ("tensorrt_rtx_cu12", "tensorrt_rtx_cu13", "tensorrt_rtx")}


def findings(root: Path = ROOT) -> Iterator[Finding]:
    here = jetson.detect(root)
    yield _driver(root)
    yield _bindings(here)
    yield _tensorrt(here)
    yield Finding(
        "nvidia", "PyCUDA", bool(found := installed("pycuda")), found or "not installed", "" if found else PYCUDA
    )
    if here is not None:
        yield from _board(root, here)


def _driver(root: Path) -> Finding:
    if not nvidia.present(root):
        mend = "install NVIDIA's driver (sudo ubuntu-drivers install); with no GPU: edgeseg build … --for BOARD"
        return Finding("nvidia", "NVIDIA driver", False, "not loaded", mend)
    versions = [f"driver {nvidia.driver(root) or 'of L4T'}", f"CUDA {nvidia.cuda(root) or 'not in /usr/local/cuda'}"]
    return Finding("nvidia", "NVIDIA driver", True, ", ".join(versions))


def _bindings(here: Jetson | None) -> Finding:
    found = installed("cuda-bindings") or installed("cuda-python")
    cuda = here.jetpack.cuda if here and here.jetpack else None
    mend = f"pip install 'cuda-python=={cuda.partition('.')[0]}.*'" if cuda else "pip install 'edgeseg[tensorrt]'"
    return Finding("nvidia", "cuda-python", found is not None, found or "not installed", "" if found else mend)


def _tensorrt(here: Jetson | None) -> Finding:
    found = [
        f"{name} {next(filter(None, map(installed, packages)), 'of unknown version')}"
        for name, packages in TENSORRT.items()
        if find_spec(name) is not None
    ]
    mend = (
        "sudo apt install python3-libnvinfer, and a virtual environment with --system-site-packages"
        if here
        else "TensorRT for RTX: pip install 'edgeseg[tensorrt-rtx]'; or TensorRT: pip install tensorrt,"
        " which fetches its libraries from NVIDIA"
    )
    return Finding("nvidia", "TensorRT", bool(found), ", ".join(found) or "not installed", "" if found else mend)


def _board(root: Path, here: Jetson) -> Iterator[Finding]:
    known = here.board
    told = f"{known.title}, compute capability {known.capability[0]}.{known.capability[1]}" if known else "not known"
    yield Finding("jetson", "board", known is not None, f"{told} ({here.model or 'its device tree names none'})")
    name = f"JetPack {here.number}: TensorRT {here.jetpack.tensorrt}" if here.jetpack else "its JetPack is not known"
    mend = "" if here.l4t else f"/{jetson.RELEASE} reads in no known form"
    yield Finding("jetson", "L4T", here.jetpack is not None, f"{here.l4t or 'unknown'}, {name}", mend)
    mode = here.power_mode
    yield Finding("jetson", "power mode", mode is not None, mode or "not told", "" if mode else "sudo nvpmodel -q")
    wanted = known.total or () if known else ()  # of the others, releases show some and leave out some
    lacking = [rail for rail in wanted if rail not in here.rails]
    mend = f"expected, not found: {', '.join(lacking)}" if lacking else ""
    yield Finding("jetson", "power rails", bool(here.rails) and not lacking, ", ".join(here.rails) or "none", mend)
    there = [f"/{path}" for path in TRTEXEC if (root / path).exists()]
    mend = "" if there else "sudo apt install libnvinfer-bin"
    yield Finding("jetson", "trtexec", bool(there), ", ".join(there) or "not installed", mend)
