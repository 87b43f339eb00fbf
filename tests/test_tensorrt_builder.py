"""The one builder on every form of TensorRT's bindings; and, really built, on TensorRT for RTX."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgeseg import nvidia
from edgeseg.artifact import load
from edgeseg.errors import ArtifactError, InputError, MissingExtra
from edgeseg.export import BuildRequest, build, calibration_cache, tensorrt, tensorrt_graph
from edgeseg.export.passes import opset17, weights_by_pair
from edgeseg.export.passes._rewrite import Rewriter
from edgeseg.export.tensorrt import FLOAT_MARK, BuildOptions, build_plan
from edgeseg.manifest import Manifest
from tests.tensorrt_builder_stand_in import Bindings
from tests.tensorrt_contract import needs_rtx

ROOT = Path(__file__).parents[1]
CACHE = calibration_cache.write({"x": 0.5}, "8.5.2")
VERSIONS = ("8.5.2.2", "8.6.1", "10.3.0", "11.4.0.106")
FLAGGED = VERSIONS[:3]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts bindings in the place of TensorRT's, on a machine with a GPU."""

    def install(trt: Any, present: bool = True) -> Any:
        monkeypatch.setattr(tensorrt, "_bindings", lambda: trt)
        monkeypatch.setattr(nvidia, "present", lambda: present)
        return trt

    return install


@pytest.mark.parametrize("version", VERSIONS)
def test_fp32_is_fp32(version: str, here: Any) -> None:
    trt = here(Bindings(version))
    assert build_plan(b"", "fp32") == b"plan"
    assert trt.config.flags == {"TF32": False}
    assert trt.network_flags == (1 if version in FLAGGED else 0)  # 1 << EXPLICIT_BATCH, whose value is 0


@pytest.mark.parametrize("version", FLAGGED)
def test_fp16_by_flag_keeps_marked_layers_in_float(version: str, here: Any) -> None:
    trt = here(Bindings(version, ("one", f"two{FLOAT_MARK}")))
    build_plan(b"", "fp16")
    assert trt.config.flags == {"FP16": True, "OBEY_PRECISION_CONSTRAINTS": True}
    one, two = trt.layers
    assert not hasattr(one, "precision") and one.types == {}
    assert two.precision == trt.DataType.FLOAT and two.types == {0: trt.DataType.FLOAT}


def test_fp16_by_flag_without_marks(here: Any) -> None:
    trt = here(Bindings("10.3.0"))
    build_plan(b"", "fp16")
    assert trt.config.flags == {"FP16": True}


def test_fp16_from_the_graph_alone(here: Any) -> None:
    here(Bindings("11.4.0", half=True))
    assert build_plan(b"", "fp16") == b"plan"
    here(Bindings("11.4.0"))
    with pytest.raises(ArtifactError, match=r"11\.4\.0 takes fp16 from the graph alone, and this one is in float32"):
        build_plan(b"", "fp16")


def test_int8(here: Any) -> None:
    trt = here(Bindings("8.6.1"))
    build_plan(b"", "int8")
    assert trt.config.flags == {"FP16": True, "INT8": True} and not hasattr(trt.config, "int8_calibrator")
    trt = here(Bindings("11.4.0"))
    build_plan(b"", "int8")
    assert trt.config.flags == {}


@pytest.mark.parametrize("version", FLAGGED)
def test_dla_with_a_calibration_cache(version: str, here: Any) -> None:
    trt = here(Bindings(version))
    build_plan(b"", "int8", BuildOptions(dla_core=1, calibration_cache=CACHE))
    config = trt.config
    assert (config.default_device_type, config.DLA_core) == (trt.DeviceType.DLA, 1)
    assert config.flags == {"FP16": True, "INT8": True, "GPU_FALLBACK": True}
    given = config.int8_calibrator
    assert calibration_cache.read(given.read_calibration_cache()) == {"x": 0.5}
    assert given.read_calibration_cache().startswith(f"TRT-{calibration_cache.number(version)}-".encode())
    assert (given.get_batch_size(), given.get_batch(["x"]), given.write_calibration_cache(b"")) == (1, None, None)


@pytest.mark.parametrize(("version", "precision"), [("11.4.0", "int8"), ("10.3.0", "fp32")])
def test_a_cache_where_none_is_taken(version: str, precision: str, here: Any) -> None:
    here(Bindings(version))
    with pytest.raises(InputError, match=f"takes no calibration cache for {precision}"):
        build_plan(b"", precision, BuildOptions(calibration_cache=CACHE))


def test_options(here: Any, tmp_path: Path) -> None:
    trt = here(Bindings("10.3.0"))
    build_plan(
        b"", "fp32", BuildOptions(1 << 20, version_compatible=True, hardware_compatible=True, optimization_level=2)
    )
    assert trt.config.pools == {"WORKSPACE": 1 << 20} and trt.config.flags["VERSION_COMPATIBLE"]
    assert trt.config.hardware_compatibility_level == trt.HardwareCompatibilityLevel.AMPERE_PLUS
    assert trt.config.builder_optimization_level == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (BuildOptions(version_compatible=True), "has no version_compatible"),
        (BuildOptions(hardware_compatible=True), "has no hardware_compatibility_level"),
        (BuildOptions(optimization_level=3), "has no builder_optimization_level"),
        (BuildOptions(compute_capability="8.6"), "builds for the GPU it runs on alone"),
        (BuildOptions(dla_core=2), "finds 2 DLA cores here, there is no 2"),
        (BuildOptions(dla_core=-1), "there is no -1"),
    ],
)
def test_options_that_a_version_does_not_have(options: BuildOptions, said: str, here: Any) -> None:
    here(Bindings("8.5.2.2"))
    with pytest.raises(InputError, match=f"tensorrt 8.5.2.2 .*{said}"):
        build_plan(b"", "fp32", options)


def test_the_timing_cache_goes_on(here: Any, tmp_path: Path) -> None:
    here(Bindings("10.3.0"))
    path = tmp_path / "timing.cache"
    for _ in range(3):
        build_plan(b"", "fp32", BuildOptions(timing_cache=path))
    assert path.read_bytes() == b"+++"
    for useless in (b"damaged", b"of another GPU"):
        path.write_bytes(useless)
        build_plan(b"", "fp32", BuildOptions(timing_cache=path))
        assert path.read_bytes() == b"+"
    assert list(tmp_path.iterdir()) == [path]


def refusal(node: int, text: str, **more: Any) -> Any:
    return SimpleNamespace(node=lambda: node, desc=lambda: text, **{k: lambda v=v: v for k, v in more.items()})


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([refusal(3, "no\n importer")], "graph: node number 3: no importer"),
        ([refusal(-1, "no model")], "graph: no model"),
        ([refusal(3, "bad", node_name="up", node_operator="MaxUnpool")] * 2, r"node 'up' \(MaxUnpool\): bad \(and 1 m"),
    ],
)
def test_the_parsers_words(errors: list[Any], said: str, here: Any) -> None:
    trt = here(Bindings("10.3.0"))
    trt.errors = errors
    with pytest.raises(ArtifactError, match=f"tensorrt 10.3.0 does not parse this .*{said}") as caught:
        build_plan(b"", "fp32")
    assert "\n" not in str(caught.value)


def test_the_builders_words(here: Any) -> None:
    trt = here(Bindings("10.3.0"))

    trt.plan = None
    real = trt.OnnxParser
    trt.OnnxParser = lambda network, log: (log.log(2, "a warning"), log.log(1, "no\n tactic"), real(network, log))[-1]
    with pytest.raises(ArtifactError, match=r"tensorrt 10\.3\.0 does not build this graph: no tactic$"):
        build_plan(b"", "fp32")


def test_no_gpu(here: Any) -> None:
    here(Bindings("8.6.1"), present=False)
    with pytest.raises(
        InputError, match="builds on the GPU that the engine is for, and none is here: make a build tick"
    ):
        build_plan(b"", "fp32")
    here(Bindings("10.3.0")).finds_gpu = False  # the driver is loaded and does not answer
    with pytest.raises(InputError, match="builds only where it finds an NVIDIA GPU"):
        build_plan(b"", "fp32")


def test_an_unknown_precision(here: Any) -> None:
    here(Bindings("10.3.0"))
    with pytest.raises(InputError, match="unknown precision 'int4'"):
        build_plan(b"", "int4")


def test_what_the_manifest_says_where_a_gpu_is(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here(Bindings("10.3.0"))
    monkeypatch.setattr(nvidia, "facts", lambda: {"driver": "570.1"})
    monkeypatch.setattr(nvidia, "capability", lambda: "8.9")
    assert tensorrt.cannot_run() is None and tensorrt.toolchain() == {"tensorrt": "10.3.0"}
    assert tensorrt.device() == {
        "package": "tensorrt", "tensorrt": "10.3.0", "driver": "570.1", "compute_capability": "8.9",
    }  # fmt: skip


def test_it_imports_where_a_board_has_neither_torch_nor_onnx() -> None:
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnx", "onnx_ir", "onnxruntime", "onnxscript"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from edgeseg.export import tensorrt
print(tensorrt.BuildOptions())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_neither_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "PACKAGES", ("no_such_tensorrt",))
    with pytest.raises(MissingExtra, match=r"pip install 'edgeseg\[tensorrt-rtx\]'"):
        tensorrt.package()


def small(kind: str = "Relu") -> bytes:
    x = ir.Value(name="x", shape=ir.Shape([1, 3, 8, 8]), type=ir.TensorType(ir.DataType.FLOAT))
    model = ir.Model(ir.Graph([x], [], nodes=[], opset_imports={"": 17}, name="small"), ir_version=8)
    r = Rewriter(model)
    y = r.op(kind, [x], "y")
    y.shape, y.type = x.shape, ir.TensorType(ir.DataType.FLOAT)
    model.graph.outputs.append(y)
    return tensorrt_graph.to_bytes(model)


AHEAD = {"compute_capability": "8.6"}


@needs_rtx
def test_rtx_builds_ahead_of_time_with_its_options(tmp_path: Path) -> None:
    path = tmp_path / "timing.cache"
    plain = build_plan(small(), "fp32", BuildOptions(**AHEAD))  # type: ignore[arg-type]
    every = BuildOptions(1 << 28, path, hardware_compatible=True, optimization_level=1, **AHEAD)  # type: ignore[arg-type]
    assert plain and build_plan(small(), "fp32", every)
    assert path.read_bytes() and build_plan(small(), "fp32", every)


@needs_rtx
@pytest.mark.parametrize(
    ("content", "options", "error", "said"),
    [
        (small(), {"compute_capability": "9.0"}, InputError, "compute capability 9.0: 7.5, 8.0, 8.6"),
        (small(), {**AHEAD, "dla_core": 0}, InputError, "finds 0 DLA cores"),
        (small("MaxUnpool"), AHEAD, ArtifactError, r"does not parse this graph: node 'y' \(MaxUnpool\): "),
        (b"garbage" * 9, AHEAD, ArtifactError, "does not parse this graph: "),
    ],
)
def test_rtx_refuses_in_a_line(content: bytes, options: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        build_plan(content, "fp32", BuildOptions(**options))
    assert "\n" not in str(caught.value)


@needs_rtx
@pytest.mark.skipif(nvidia.present(), reason="here is a GPU: engines are run, and proven")
def test_an_engine_that_cannot_run_here_is_kept_as_unproven(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from edgeseg.cli import app

    request = BuildRequest(
        model="enet", size=(64, 96), targets=("tensorrt",), precisions=("fp16",), out=tmp_path / "api"
    )
    (path,) = build(request)
    manifest = load(path).manifest
    assert manifest.unproven is not None and "never run" in manifest.unproven
    assert manifest.device is not None and manifest.device["compute_capability"] == "8.6"
    assert (
        manifest.device["package"] == "tensorrt_rtx"
        and manifest.device["tensorrt"] == manifest.toolchain["tensorrt_rtx"]
    )
    assert Manifest.from_json(manifest.to_json()) == manifest
    arguments = ["build", "enet", "--size", "64x96", "--target", "tensorrt", "--out", str(tmp_path / "cli"), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["artifacts"][0]["unproven"] == manifest.unproven
    assert sum(line.startswith("not proven: ") for line in done.stderr.splitlines()) == 1


@needs_rtx
def test_nvidias_parser_takes_the_form_for_tensorrt_8() -> None:
    """Of int8 weights by pair and opset 17: the newest parser stands for the old one, which cannot run here."""
    from edgeseg import models
    from edgeseg.export.quantize.calibrate import calibrate
    from edgeseg.export.quantize.qdq import quantize
    from tests.test_tensorrt_graph import form, frame

    graph = form(models.load("enet").module)
    model = quantize(graph, calibrate(graph, [np.asarray(frame()[0])]))
    weights_by_pair.apply(model)
    opset17.apply(model)
    assert build_plan(tensorrt_graph.to_bytes(model), "int8", BuildOptions(**AHEAD))  # type: ignore[arg-type]
