"""A fault that is planted in one layer of an engine is found in that layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeseg.errors import CheckFailed
from edgeseg.export import BuildRequest, _targets, build
from edgeseg.export._bisect import cut_behind, first_wrong, points
from edgeseg.export._exact import run_exactly
from edgeseg.export.capture import capture
from edgeseg.export.passes import frame_io
from edgeseg.export.quantize.calibrate import calibrate
from edgeseg.export.quantize.plan import WEIGHTED
from edgeseg.export.quantize.qdq import quantize
from edgeseg.manifest import Manifest, ModelEntry, Weights
from edgeseg.spec import Preprocess, TensorSpec
from tests.targets import RUNNABLE

SIZE = (16, 24)


class Branched(nn.Module):
    """Two branches that meet in a Concat and a sum: what is wrong in one leaves the other right."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.left = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU())
        self.right = nn.Sequential(nn.Conv2d(8, 8, 1), nn.PReLU(8), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.ReLU())
        self.joined, self.up = nn.Conv2d(16, 8, 1), nn.ConvTranspose2d(8, 4, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        out: Tensor = self.up(self.joined(torch.cat((self.left(x), self.right(x)), 1)) + x)
        return out


@pytest.fixture(scope="module")
def float_graph() -> ir.Model:
    torch.manual_seed(0)
    model = capture(Branched().eval(), SIZE)
    frame_io.apply(model, Preprocess(SIZE), SIZE, "both")
    return model


def frame() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), np.uint8)


def manifest_of(target: str) -> Manifest:
    return Manifest(
        model=ModelEntry("block", "paper", "semantic", 1, 0.1, "", Weights("", "")), target=target, precision="int8",
        inputs=(TensorSpec("frame", (1, *SIZE, 3), "uint8"),), outputs=(), preprocess=Preprocess(SIZE), classes=(),
        ignore_index=None, files={}, calibration=None, toolchain={}, device=None, onnx_sha256="", created="",
    )  # fmt: skip


def spoiled(model: ir.Model, weight: str, factor: float = 3) -> ir.Model:
    """A copy in which the scales of those weights, where it has them, are ``factor`` times too large."""
    copy = model.clone()
    value = copy.graph.initializers.get(f"{weight}_scale")
    if value is not None and value.const_value is not None:
        value.const_value = ir.tensor((factor * value.const_value.numpy()).astype(np.float32), name=value.name)
    return copy


Compile = Callable[[ir.Model, str, Path], list[str]]


def faulty(target: Any, weight: str) -> Compile:
    compile: Compile = target.compile
    return lambda model, precision, folder: compile(spoiled(model, weight), precision, folder)


def layers(model: ir.Model) -> dict[str, tuple[str, str]]:
    """By its weights, the name of each layer and its operators."""
    found = {}
    for node in model.graph:
        if node.op_type in WEIGHTED:
            (use,) = node.outputs[0].uses()
            after = use.node
            name, kind = (
                (node.outputs[0].name, node.op_type)
                if after.op_type in ("QuantizeLinear", "Add")
                else (after.outputs[0].name, f"{node.op_type} + {after.op_type}")
            )
            weight = node.inputs[1].producer().inputs[0].name  # type: ignore[union-attr]
            found[str(weight).removesuffix("_int8")] = str(name), kind
    return found


@pytest.mark.parametrize("name", RUNNABLE)
def test_the_layer_with_the_fault_is_named(float_graph: ir.Model, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target: Any = _targets.load(name, "int8")
    model = quantize(float_graph, calibrate(float_graph, list(frame())), target.weight_levels())
    by_weight = layers(model)
    assert len(by_weight) == 7
    for weight in ("left.2.weight", "right.0.weight"):
        layer, kind = by_weight[weight]
        with monkeypatch.context() as patch:
            patch.setattr(target, "compile", faulty(target, weight))
            said = first_wrong(model, target, manifest_of(name), frame())
        assert said.startswith(f"int8 engine differs from its graph from layer {layer} ({kind}) on: ")
        there, before = (float(part.split()[0]) for part in said.partition(" on: ")[2].split(", "))
        assert there < 10 < 25 < before


def test_an_engine_that_holds_is_not_accused(float_graph: ir.Model) -> None:
    model = quantize(float_graph, calibrate(float_graph, list(frame())))
    target = _targets.load("onnxruntime", "int8")
    assert first_wrong(model, target, manifest_of("onnxruntime"), frame()).startswith("every layer holds to its graph")


def test_a_cut_computes_what_the_graph_does(float_graph: ir.Model) -> None:
    model = quantize(float_graph, calibrate(float_graph, list(frame())))
    whole = model.clone()
    names = points(model)
    values = {str(v.name): v for node in whole.graph for v in node.outputs}
    whole.graph.outputs.extend(values[n] for n in names if not values[n].is_graph_output())
    want = run_exactly(whole, frame())
    for name in names:
        np.testing.assert_array_equal(run_exactly(cut_behind(model, name), frame())["value"], want[name])


def test_a_build_that_fails_names_the_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeseg.export import onnxruntime

    compile: Compile = onnxruntime.compile
    names: list[str] = []

    def wrong(model: ir.Model, precision: str, folder: Path) -> list[str]:
        names.extend(k.removesuffix("_int8") for k in model.graph.initializers if k.endswith("_int8"))
        return compile(spoiled(model, names[0], 20), precision, folder)

    monkeypatch.setattr(onnxruntime, "compile", wrong)
    request = BuildRequest(
        "enet", size=(64, 96), targets=("onnxruntime",), precisions=("int8",), data="streets:4@64x96", out=tmp_path
    )
    with pytest.raises(CheckFailed, match=r"not kept: .*; int8 engine differs from its graph from layer \S+ \("):
        build(request)
    assert [p.name for p in tmp_path.iterdir() if "int8" in p.name] == []
