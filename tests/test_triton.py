"""Model repositories: the configuration against Triton's own schema and against the engine's file."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeseg import triton
from edgeseg.artifact import load
from edgeseg.boxes import Decoder, Detections
from edgeseg.cli import _status
from edgeseg.datasets import open_dataset
from edgeseg.errors import ArtifactError, InputError
from edgeseg.export import BuildRequest, _targets, build
from edgeseg.runtimes import open_artifact
from edgeseg.spec import TensorSpec

TARGETS = [
    pytest.param(t, marks=[pytest.mark.skip(reason=why)] if (why := _targets.why_not(t)) else [])
    for t in ("openvino", "onnxruntime", "tflite")
]


@pytest.fixture(scope="module")
def schema() -> ModuleType:
    """Triton's model_config.proto as tritonclient carries it; its package imports gRPC, this file alone does not."""
    package = importlib.util.find_spec("tritonclient")
    if package is None or not package.submodule_search_locations:
        pytest.skip("tritonclient, which carries Triton's schema, is not installed")
    file = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    targets = tuple(t for t in ("openvino", "onnxruntime", "tflite") if not _targets.why_not(t))
    out = tmp_path_factory.mktemp("triton")
    paths = build(BuildRequest("enet", size=(64, 64), targets=targets, output="both", out=out))
    return dict(zip(targets, paths, strict=True))


@pytest.fixture(scope="module")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    targets = tuple(t for t in ("openvino", "onnxruntime") if not _targets.why_not(t))
    out = tmp_path_factory.mktemp("detectors")
    paths = build(BuildRequest("efficientdet", size=(128, 128), frame=(96, 128), targets=targets, out=out))
    return dict(zip(targets, paths, strict=True))


def parsed(schema: ModuleType, text: str) -> Any:
    from google.protobuf import text_format

    return text_format.Parse(text, schema.ModelConfig())


def ends(target: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(inputs, outputs) of the engine's own file: name → (Triton's type, dims)."""
    if target == "onnxruntime":
        graph = onnx.load(folder / "model.onnx").graph
        kinds = {
            onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.FLOAT: "TYPE_FP32",
            onnx.TensorProto.INT32: "TYPE_INT32",
        }  # fmt: skip
        found = []
        for side in (graph.input, graph.output):
            tensors = {v.name: v.type.tensor_type for v in side}
            found.append({k: (kinds[t.elem_type], [d.dim_value for d in t.shape.dim]) for k, t in tensors.items()})
        return found[0], found[1]
    import openvino

    model = openvino.Core().read_model(folder / "model.xml")
    names = {"u8": "TYPE_UINT8", "f32": "TYPE_FP32", "i32": "TYPE_INT32"}
    found = [
        {p.any_name: (names[p.element_type.get_type_name()], [int(d) for d in p.shape]) for p in side}
        for side in (model.inputs, model.outputs)
    ]
    return found[0], found[1]


def configured(schema: ModuleType, config: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """(inputs, outputs) of a configuration, as ``ends``."""
    name = schema.DataType.Name
    inputs, outputs = (
        {t.name: (name(t.data_type), list(t.dims)) for t in side} for side in (config.input, config.output)
    )
    return inputs, outputs


@pytest.mark.parametrize("target", TARGETS[:2])
def test_the_configuration_is_what_the_engine_says(
    target: str, artifacts: dict[str, Path], schema: ModuleType, tmp_path: Path
) -> None:
    folder = triton.export(artifacts[target], tmp_path, "street-net")
    found = parsed(schema, (folder / "config.pbtxt").read_text(encoding="utf-8"))
    assert (found.name, found.backend, found.max_batch_size) == ("street-net", target, 0)
    assert (folder / "1" / found.default_model_filename).is_file()
    assert configured(schema, found) == ends(target, folder / "1")
    assert found.instance_group[0].kind == schema.ModelInstanceGroup.KIND_CPU
    assert found.version_policy.latest.num_versions == 1
    classes = json.loads(found.parameters["edgeseg.classes"].string_value)
    assert found.parameters["edgeseg.task"].string_value == "semantic"
    assert found.parameters["edgeseg.answer"].string_value.startswith("final")
    assert classes == [c.name for c in load(artifacts[target]).manifest.classes]
    for file in (folder / "1").iterdir():
        assert file.read_bytes() == (artifacts[target] / file.name).read_bytes()


@pytest.mark.parametrize("target", TARGETS[:2])
def test_a_detectors_configuration_says_who_makes_boxes(
    target: str, detectors: dict[str, Path], schema: ModuleType, tmp_path: Path
) -> None:
    artifact = detectors[target]
    folder = triton.export(artifact, tmp_path)
    found = parsed(schema, (folder / "config.pbtxt").read_text(encoding="utf-8"))
    assert configured(schema, found) == ends(target, folder / "1")
    assert found.parameters["edgeseg.task"].string_value == "detection"
    manifest = load(artifact).manifest
    assert manifest.detection is not None
    answer = found.parameters["edgeseg.answer"].string_value
    assert answer.startswith("final" if manifest.detection.nms == "graph" else "raw")
    frame = open_dataset("streets:1@96x128:val")[0].frame
    with open_artifact(artifact, selftest=False) as engine:
        given, wanted = engine.run({"frame": frame[None]}), engine.detect(frame)
    assert set(given) == {t.name for t in found.output}
    if answer.startswith("raw"):  # what docs/triton.md has a client do with what a server gives
        made = Decoder(manifest.detection, manifest.preprocess, manifest.frame)(
            given["class_logits"][0], given["box_deltas"][0]
        )
    else:
        made = Detections(given["boxes"][0], given["scores"][0], given["classes"][0], int(given["count"][0]))
    assert made.count == wanted.count > 0
    for part in ("boxes", "scores", "classes"):
        assert np.array_equal(getattr(made, part), getattr(wanted, part))


def test_a_plan_goes_to_the_gpu(artifacts: dict[str, Path], schema: ModuleType) -> None:
    manifest = replace(load(next(iter(artifacts.values()))).manifest, target="tensorrt")
    found = parsed(schema, "\n".join(triton.config(manifest, "net").lines()))
    assert (found.backend, found.default_model_filename) == ("tensorrt", "model.plan")
    assert found.instance_group[0].kind == schema.ModelInstanceGroup.KIND_GPU


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(text: str) -> None:
    pytest.importorskip("google.protobuf")
    from google.protobuf import text_format
    from google.protobuf.wrappers_pb2 import StringValue

    assert text_format.Parse(f"value: {triton.quoted(text)}", StringValue()).value == text


def test_what_cannot_be_served_is_one_line(artifacts: dict[str, Path], tmp_path: Path) -> None:
    if "tflite" in artifacts:
        with pytest.raises(InputError, match="no backend for tflite"):
            triton.export(artifacts["tflite"], tmp_path)
    one = next(path for target, path in artifacts.items() if target != "tflite")
    triton.export(one, tmp_path)
    with pytest.raises(InputError, match="is there already"):
        triton.export(one, tmp_path)
    assert triton.export(one, tmp_path, replace=True).is_dir()
    for name in ("../out", "a/b", ".hidden", "ü"):
        with pytest.raises(InputError, match="no name of a model"):
            triton.export(one, tmp_path, name)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unproven": "no GPU here"}, "has never met its golden outputs"),
        ({"toolchain": {"tensorrt_rtx": "1.7"}}, "TensorRT for RTX"),
        ({"outputs": (TensorSpec("labels", (1, 64, 64), "complex64"),)}, "no type for complex64"),
    ],
)
def test_an_engine_that_triton_should_not_get(
    change: dict[str, Any], message: str, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    one = next(path for target, path in artifacts.items() if target != "tflite")
    copy = tmp_path / "copy"
    shutil.copytree(one, copy)
    manifest = replace(load(copy).manifest, **change)
    (copy / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        triton.export(copy, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_an_altered_artifact_is_not_exported(artifacts: dict[str, Path], tmp_path: Path) -> None:
    one = next(path for target, path in artifacts.items() if target != "tflite")
    copy = tmp_path / "copy"
    shutil.copytree(one, copy)
    file = next(copy.glob("model.*"))
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(ArtifactError):
        triton.export(copy, tmp_path / "repository")
    assert not (tmp_path / "repository" / "copy").exists()


def test_the_command(artifacts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = next(path for target, path in artifacts.items() if target != "tflite")
    assert _status(["export-triton", str(one), "--out", str(tmp_path), "--name", "net", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"] == [{"artifact": str(one), "model": str(tmp_path / "net")}]
    assert _status(["export-triton", str(one), str(one), "--out", str(tmp_path)]) == 2
    assert "with --name" in capsys.readouterr().err
    served = [str(path) for target, path in artifacts.items() if target != "tflite"]
    assert _status(["export-triton", *served, "--out", str(tmp_path / "all")]) == 0
    assert {model.name for model in (tmp_path / "all").iterdir()} == {Path(path).name for path in served}
