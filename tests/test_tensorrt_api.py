"""The builder's calls against real bindings of TensorRT, which import without a GPU: 10.3, 11.4, TensorRT for RTX.
8.5.2: by hand, see tests/scripts/tensorrt_api.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.scripts import tensorrt_api
from tests.tensorrt_contract import needs_rtx

ROOT = Path(__file__).parents[1]
WHEELS = Path(os.environ.get("EDGESEG_TENSORRT_BINDINGS", ROOT / ".venv" / "tensorrt-bindings"))
PARTS = ("nvinfer", "nvonnxparser", "nvinfer_plugin")
FLAGS = (
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH", "BuilderFlag.FP16", "BuilderFlag.INT8",
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS", "ILayer.precision", "ILayer.set_output_type",
    "IInt8EntropyCalibrator2", "IBuilderConfig.int8_calibrator",
)  # fmt: skip
AHEAD = ("ComputeCapability", "IBuilderConfig.set_compute_capability", "IBuilderConfig.num_compute_capabilities")


def ask(*arguments: str | Path) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "tests/scripts/tensorrt_api.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(("version", "calibrates"), [("10.3", True), ("11.4", False)])
def test_bindings_have_what_the_builder_looks_for(version: str, calibrates: bool, tmp_path: Path) -> None:
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    wheels = sorted(WHEELS.glob(f"tensorrt_cu*_bindings-{version}.*-{python}-*.whl"))
    if not wheels or shutil.which("cc") is None:
        pytest.skip(f"no bindings of TensorRT {version} in {WHEELS.name}/ (make test brings them), or no C compiler")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(tmp_path)
    major = version.split(".")[0]
    found = ask(tmp_path, "tensorrt_bindings", *(f"lib{part}.so.{major}" for part in PARTS))
    assert found["version"].startswith(version)
    absent = {name for name, there in found["names"].items() if not there}
    assert absent == {*AHEAD} | (set() if calibrates else {*FLAGS})
    explicit, calibrator = (1, "cache") if calibrates else (0, None)
    assert found["builder"] == {"errors": ["one two"], "network_flags": explicit, "calibrator": calibrator}


@needs_rtx
def test_tensorrt_for_rtx_has_what_the_builder_looks_for() -> None:
    found = ask(ROOT, "tensorrt_rtx")
    assert {name for name, there in found["names"].items() if not there} == {*FLAGS}
    assert found["builder"] == {"errors": ["one two"], "network_flags": 0, "calibrator": None}


def test_the_script_asks_for_every_name_that_the_builder_uses() -> None:
    """What is looked up on the bindings by name stands in the script's lists."""
    import re

    source = (ROOT / "export/tensorrt.py").read_text()
    used = set(
        re.findall(r"\.(?:BuilderFlag|DataType|DeviceType|MemoryPoolType|HardwareCompatibilityLevel)\.(\w+)", source)
    )
    used |= set(re.findall(r'(?:getattr|hasattr|_having)\([^"()]*"(\w+)"', source))
    asked = (tensorrt_api.ALWAYS + tensorrt_api.SOMETIMES).replace(".", " ").split()
    assert used and used <= {*asked, "name"}, used - {*asked}
