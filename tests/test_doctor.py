"""``edgeseg doctor`` on NVIDIA's parts: exactly what is missing, what brings it; on files of other machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeseg.cli import _nvidia
from edgeseg.cli._finding import Finding
from tests.test_boards import HWMON, JETPACK_6, ORIN_NANO, tree

NONE = {"cuda-bindings": None, "cuda-python": None, "pycuda": None, "tensorrt": None, "tensorrt_rtx_cu12": None}
DRIVER = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 23 03:19:27 UTC 2025\n"
    "GCC version:  gcc version 12.2.0\n"
)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Distribution → version, of those that this machine has; none at first."""
    found: dict[str, str | None] = dict(NONE)
    imports = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt_rtx_cu12"}
    monkeypatch.setattr(_nvidia, "installed", found.get)
    monkeypatch.setattr(_nvidia, "find_spec", lambda name: found[imports[name]])
    return found


def findings(root: Path) -> dict[str, Finding]:
    return {finding.name: finding for finding in _nvidia.findings(root)}


def test_without_nvidia_parts_each_is_named_with_its_command(packages: dict[str, str | None], tmp_path: Path) -> None:
    found = findings(tmp_path)
    assert list(found) == ["NVIDIA driver", "cuda-python", "TensorRT", "PyCUDA"]
    assert not any(f.ok for f in found.values())
    assert "ubuntu-drivers install" in found["NVIDIA driver"].mend
    assert "edgeseg build … --for BOARD" in found["NVIDIA driver"].mend
    assert found["cuda-python"].mend == "pip install 'edgeseg[tensorrt]'"
    assert "pip install 'edgeseg[tensorrt-rtx]'" in found["TensorRT"].mend
    assert "pip install tensorrt, which fetches its libraries from NVIDIA" in found["TensorRT"].mend
    assert found["PyCUDA"].mend.startswith("optional")


def test_what_is_there_needs_no_mend(packages: dict[str, str | None], tmp_path: Path) -> None:
    packages.update({"cuda-bindings": "13.4.4", "pycuda": "2026.1", "tensorrt_rtx_cu12": "1.7.1.116"})
    version = '{"cuda": {"name": "CUDA SDK", "version": "12.6.1"}}'
    found = findings(tree(tmp_path, {"proc/driver/nvidia/version": DRIVER, "usr/local/cuda/version.json": version}))
    assert all(f.ok and not f.mend for f in found.values())
    assert found["NVIDIA driver"].found == "driver 570.86.15, CUDA 12.6.1"
    assert found["TensorRT"].found == "tensorrt_rtx 1.7.1.116"


def test_a_jetson_says_which_it_is(packages: dict[str, str | None], tmp_path: Path) -> None:
    found = findings(tree(tmp_path, {**JETPACK_6, _nvidia.TRTEXEC[1]: ""}))
    assert found["NVIDIA driver"].ok
    assert found["cuda-python"].mend == "pip install 'cuda-python==12.*'"
    assert found["TensorRT"].mend.startswith("sudo apt install python3-libnvinfer")
    assert found["board"].found == f"Jetson Orin Nano, compute capability 8.7 ({ORIN_NANO})"
    assert found["L4T"].found == "36.4.3, JetPack 6.2: TensorRT 10.3.0"
    assert found["power mode"].found == "MAXN_SUPER"
    assert found["power rails"].found == "VDD_IN, VDD_CPU_GPU_CV, VDD_SOC"
    assert all(f.ok for f in found.values() if f.kind == "jetson")


def test_a_jetson_that_is_not_known_is_not_guessed(packages: dict[str, str | None], tmp_path: Path) -> None:
    files = {
        **JETPACK_6,
        "sys/firmware/devicetree/base/model": "NVIDIA Jetson Orin Mega",
        "etc/nv_tegra_release": "new",
    }
    found = findings(tree(tmp_path, {k: v for k, v in files.items() if k not in ("etc/nvpmodel.conf",)}))
    assert not any(found[name].ok for name in ("board", "L4T", "power mode", "trtexec"))
    assert found["board"].found == "not known (NVIDIA Jetson Orin Mega)"
    assert found["L4T"].found == "unknown, its JetPack is not known"
    assert found["cuda-python"].mend == "pip install 'edgeseg[tensorrt]'"
    assert found["trtexec"].mend == "sudo apt install libnvinfer-bin"


def test_a_rail_that_is_not_found_is_named(packages: dict[str, str | None], tmp_path: Path) -> None:
    found = findings(tree(tmp_path, {**JETPACK_6, HWMON.format(0, 1, 1): "NC\n"}))
    assert (found["power rails"].ok, found["power rails"].mend) == (False, "expected, not found: VDD_IN")
