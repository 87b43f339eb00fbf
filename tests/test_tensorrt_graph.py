"""The graph that a generation of TensorRT gets: half precision, the older opset, int8 weights by pair, the cache."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgeseg import models
from edgeseg.datasets import open_dataset
from edgeseg.errors import ArtifactError, InputError
from edgeseg.export import calibration_cache, half, tensorrt_graph
from edgeseg.export._exact import Exact
from edgeseg.export.capture import capture
from edgeseg.export.passes import (
    activation_before_concat,
    fold_batchnorm,
    frame_io,
    labels_by_float,
    opset17,
    unpool,
    weights_by_pair,
)
from edgeseg.export.passes._rewrite import Rewriter
from edgeseg.export.quantize.calibrate import calibrate
from edgeseg.export.quantize.plan import Plan, silu
from edgeseg.export.quantize.qdq import quantize
from edgeseg.export.tensorrt import FLOAT_MARK
from edgeseg.metrics import sqnr_db
from edgeseg.spec import Preprocess
from tests.test_quantize import Gates, captured, frames

SIZE = (64, 96)
FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16


def form(network: nn.Module, ends: str = "both") -> ir.Model:
    torch.manual_seed(0)
    model = capture(network.eval(), SIZE)
    for rewrite in (fold_batchnorm, activation_before_concat, unpool):
        rewrite.apply(model)
    frame_io.apply(model, Preprocess(SIZE), SIZE, ends)
    return model


def frame(seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return open_dataset(f"streets:{seed + 1}@64x96")[seed].frame[None]


@pytest.fixture(scope="module")
def enet() -> ir.Model:
    return form(models.load("enet").module)


@pytest.fixture(scope="module")
def quantized(enet: ir.Model) -> ir.Model:
    return quantize(enet, calibrate(enet, [frame()[0]]))


def types(model: ir.Model) -> dict[str, ir.DataType | None]:
    return {str(v.name): v.dtype for node in model.graph for v in node.outputs}


class Mean(nn.Module):
    """A mean over many: each value fits float16, their sum does not."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(x) + (self.factor * x).mean((2, 3), keepdim=True).sum(1, keepdim=True)
        return out


def test_half_answers_as_float_and_both_ends_stay(enet: ir.Model) -> None:
    model = enet.clone()
    assert half.overflowing(model, half.frames((1, *SIZE, 3))) == set()
    half.apply(model, set())
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    want, got = Exact(enet).run(frame()), Exact(model).run(frame())
    assert {k: v.dtype for k, v in got.items()} == {"labels": np.uint8, "logits": np.float32}
    assert sqnr_db(want["logits"], got["logits"]) > 40 and (want["labels"] == got["labels"]).mean() > 0.995
    assert (got["labels"] == got["logits"].argmax(1)).all()
    found = types(model)
    assert found["frame_normalised"] == FLOAT
    halves = [name for name, dtype in found.items() if dtype == HALF]
    floats = [name for name, dtype in found.items() if dtype == FLOAT]
    assert len(halves) > 200 and len(floats) < 6, floats
    assert types(enet)["logits"] == FLOAT  # the original is as it was


def test_what_overflows_stays_in_float() -> None:
    class Large(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (torch.relu(x * 3e5) + 1.0) * 1e-5

    model = form(Large(), "logits")
    keep = half.overflowing(model, half.frames((1, *SIZE, 3)))
    kinds = {n.op_type for n in model.graph if n.name in keep}
    assert kinds == {"Mul", "Relu", "Add"}
    want = Exact(model).run(frame())["logits"]
    kept, lost = model.clone(), model.clone()
    half.apply(kept, keep)
    half.apply(lost, set())
    assert sqnr_db(want, Exact(kept).run(frame())["logits"]) > 60
    assert not np.isfinite(Exact(lost).run(frame())["logits"]).all()


def test_a_sum_behind_a_mean_counts() -> None:
    for factor, kept in ((10.0, {"ReduceMean"}), (0.1, set())):
        model = form(Mean(factor), "logits")
        keep = half.overflowing(model, half.frames((1, *SIZE, 3)))
        assert {n.op_type for n in model.graph if n.name in keep} == kept


def test_constants_count_and_nan_is_no_number() -> None:
    class Constant(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.full((1, 3, 1, 1), value))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x) * self.scale

    for value in (1e6, float("nan")):
        model = form(Constant(value), "logits")
        keep = half.overflowing(model, [np.zeros((1, *SIZE, 3), np.uint8)])
        assert any(n.op_type == "Mul" and n.name in keep for n in model.graph), value


@pytest.mark.parametrize("generation", ["8.5", "8.6", "10"])
def test_flagged_generations_get_marks_and_a_float_graph(generation: str) -> None:
    class Large(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x * 3e5) * 1e-5

    model = tensorrt_graph.prepare(form(Large()), "fp16", generation)
    assert HALF not in types(model).values()
    assert sum(str(n.name).endswith(FLOAT_MARK) for n in model.graph) >= 3
    assert not any(FLOAT_MARK in str(n.name) for n in tensorrt_graph.prepare(form(Large()), "fp32", generation).graph)


@pytest.mark.parametrize("generation", ["11", "rtx"])
def test_typed_generations_get_half_in_the_graph(generation: str, enet: ir.Model) -> None:
    assert HALF in types(tensorrt_graph.prepare(enet, "fp16", generation)).values()


def test_weights_by_pair_are_the_same_weights(quantized: ir.Model) -> None:
    model = quantized.clone()
    assert weights_by_pair.apply(model)
    assert not weights_by_pair.apply(model)
    assert not any(v.dtype == ir.DataType.INT8 and len(v.shape or ()) > 1 for v in model.graph.initializers.values())
    want, got = Exact(quantized).run(frame()), Exact(model).run(frame())
    assert all((want[k] == got[k]).all() for k in want)


@given(st.floats(2.0**-40, 2.0**20, width=32))
def test_a_step_times_its_scale_quantizes_back(scale: float) -> None:
    steps = np.arange(-128, 128).astype(np.float32)
    assert (np.rint(steps * np.float32(scale) / np.float32(scale)) == steps).all()


def test_int8_for_tensorrt_8_says_what_the_quantized_graph_says(quantized: ir.Model) -> None:
    model = tensorrt_graph.prepare(quantized, "int8", "8.5")
    want, got = Exact(quantized).run(frame()), Exact(model).run(frame())
    assert all((want[k] == got[k]).all() for k in want)


def test_labels_go_by_float() -> None:
    values = np.arange(256, dtype=np.int64).reshape(1, 256)
    x = ir.Value(name="frame", shape=ir.Shape([1, 256]), type=ir.TensorType(ir.DataType.INT64))
    model = ir.Model(ir.Graph([x], [], nodes=[], opset_imports={"": 18}, name="one"), ir_version=10)
    r = Rewriter(model)
    out = r.op("Cast", [x], "labels", to=ir.DataType.UINT8)
    out.shape, out.type = x.shape, ir.TensorType(ir.DataType.UINT8)
    model.graph.outputs.append(out)
    assert labels_by_float.apply(model) and not labels_by_float.apply(model)
    assert [n.op_type for n in model.graph] == ["Cast", "Cast"] and model.graph.outputs[0].name == "labels"
    assert (Exact(model).run(values)["labels"] == values).all()  # type: ignore[arg-type]


def lowered(kind: str, inputs: list[np.ndarray | None], outputs: int = 1, **attributes: object) -> ir.Model:
    """One node of opset 18 behind ``frame`` float32 2×3×4×5, lowered; checked to answer as before."""
    x = ir.Value(name="frame", shape=ir.Shape([2, 3, 4, 5]), type=ir.TensorType(FLOAT))
    model = ir.Model(ir.Graph([x], [], nodes=[], opset_imports={"": 18}, name="one"), ir_version=10)
    r = Rewriter(model)
    rest = [None if v is None else r.const(v, f"in{i}") for i, v in enumerate(inputs)]
    node = ir.node(kind, [x, *rest], attributes=attributes, num_outputs=outputs)  # type: ignore[arg-type]
    node.name = "node"
    for i, value in enumerate(node.outputs):
        value.name, value.type = f"out{i}", ir.TensorType(FLOAT)
        model.graph.outputs.append(value)
    r.graph.append(node)
    r.finish()
    feed = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    before = Exact(model).run(feed)  # type: ignore[arg-type]
    assert opset17.apply(model)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    assert (proto.opset_import[0].version, proto.ir_version) == (17, 8)
    after = Exact(model).run(feed)  # type: ignore[arg-type]
    assert all((before[k] == after[k]).all() for k in before)
    return model


@pytest.mark.parametrize("kind", ["ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp"])
@pytest.mark.parametrize("axes", [None, [1], [-1, 2]])
def test_axes_go_back_into_attributes(kind: str, axes: list[int] | None) -> None:
    model = lowered(kind, [] if axes is None else [np.array(axes, np.int64)], keepdims=1)
    assert len(model.graph[0].inputs) == 1 and ("axes" in model.graph[0].attributes) == (axes is not None)


def test_pads_split_and_resize_are_lowered() -> None:
    lowered("Pad", [np.array([1, 0, 2, 1], np.int64), np.array(0.5, np.float32), np.array([3, 1], np.int64)])
    lowered("Pad", [np.array([0, 0, 1, 1, 0, 0, 1, 2], np.int64)], mode="edge")
    lowered("Split", [], outputs=2, num_outputs=2, axis=2)
    lowered("Split", [], outputs=2, num_outputs=2, axis=1)  # of unequal parts
    sizes = np.array([2, 3, 8, 10], np.int64)
    lowered("Resize", [None, None, sizes], mode="linear", antialias=0, keep_aspect_ratio_policy="stretch")


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes", "said"),
    [
        ("ReduceMean", [], {"noop_with_empty_axes": 1}, "noop_with_empty_axes"),
        ("Resize", [None, None, np.array([2, 3, 8, 10], np.int64)], {"mode": "linear", "antialias": 1}, "antialias"),
        ("Mish", [], {}, "the operator"),
    ],
)
def test_what_opset_17_cannot_say(kind: str, inputs: list[object], attributes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=rf"node 'node' \({kind}\): .*{said} is beyond opset 17"):
        lowered(kind, inputs, **attributes)  # type: ignore[arg-type]


NAMES = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1)


@given(
    st.dictionaries(NAMES, st.floats(2.0**-100, 2.0**100, width=32)), st.sampled_from(["8.5.2.2", "8.6.0", "10.3.0"])
)
def test_a_cache_gives_its_scales_back(scales: dict[str, float], version: str) -> None:
    content = calibration_cache.write(scales, version)
    assert calibration_cache.read(content) == scales
    assert calibration_cache.read(calibration_cache.for_version(content, "10.3.0")) == scales


def test_the_cache_is_tensorrts_text() -> None:
    content = calibration_cache.write({"conv1: out": 1 / 127}, "8.5.2.2")
    assert content == b"TRT-8502-EntropyCalibration2\nconv1: out: 3c010204\n"
    assert calibration_cache.for_version(content, "10.3.0").startswith(b"TRT-100300-")
    unpadded = b"TRT-8502-EntropyCalibration2\nx: 800000\n\n"  # TensorRT writes no leading zeros
    assert calibration_cache.read(unpadded) == {"x": float(np.array(0x800000, np.uint32).view(np.float32))}


@pytest.mark.parametrize(
    "content", [b"", b"TRT-8502-MinMaxCalibration\n", b"\xff\xfe", b"TRT-8502-EntropyCalibration2\nx 3c010204\n",
                b"TRT-8502-EntropyCalibration2\nx: 3c01020411\n", b"TRT-8502-EntropyCalibration2\nx: none\n"],
)  # fmt: skip
def test_no_cache(content: bytes) -> None:
    with pytest.raises(ArtifactError, match="calibration cache"):
        calibration_cache.read(content)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), 1e60, 1e-60])
def test_no_scale(scale: float) -> None:
    with pytest.raises(ArtifactError, match="calibrate anew"):
        calibration_cache.write({"x": scale}, "10.3.0")


@pytest.mark.parametrize("name", ["", " x", "a\nb"])
def test_no_name(name: str) -> None:
    with pytest.raises(ArtifactError, match="has no form in a calibration cache"):
        calibration_cache.write({name: 1.0}, "10.3.0")


def test_a_silu_has_a_scale_between_its_operators() -> None:
    model = captured(Gates)
    found = tensorrt_graph.scales(model, quantize(model, calibrate(model, frames())))
    sigmoids = [str(n.outputs[0].name) for n in model.graph if silu(n) is not None]
    assert len(sigmoids) == 2
    assert all(found[name] == pytest.approx(1 / 127) for name in sigmoids)


def test_scales_cover_every_tensor_that_carries_one(enet: ir.Model, quantized: ir.Model) -> None:
    scales, plan = tensorrt_graph.scales(enet, quantized), Plan(enet)
    values = {str(v.name): v for node in enet.graph for v in node.outputs}
    assert set(scales) <= set(values)
    carrying = {name for name, value in values.items() if plan.scale_of(value) is not None}
    assert carrying <= set(scales) and "logits" in scales
    assert {str(v.name) for v in plan.inner} <= set(scales)
    for node in quantized.graph:
        source = node.inputs[0]
        if node.op_type == "QuantizeLinear" and source is not None and str(source.name) in scales:
            assert scales[str(source.name)] == pytest.approx(float(node.inputs[1].const_value.numpy()))  # type: ignore[union-attr]
