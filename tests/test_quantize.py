"""Where scales come from, where they are written, and what they cost."""

from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeseg.errors import InputError
from edgeseg.export._exact import Exact
from edgeseg.export.capture import capture
from edgeseg.export.passes import activation_before_concat, fold_batchnorm, frame_io
from edgeseg.export.quantize.calibrate import calibrate
from edgeseg.export.quantize.histogram import Histogram
from edgeseg.export.quantize.qdq import RANGES, quantize
from edgeseg.spec import Preprocess

SIZE = (16, 24)


class Block(nn.Module):
    """A Concat behind BatchNorm, a residual sum, PReLUs, a transposed convolution: ENet's parts, small."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.pool = nn.Conv2d(3, 5, 3, 2, 1, bias=False), nn.MaxPool2d(2)
        self.norm, self.act = nn.BatchNorm2d(8), nn.PReLU(8)
        self.inner, self.inner_act = nn.Conv2d(8, 8, 3, padding=2, dilation=2), nn.PReLU()
        self.out_act = nn.PReLU(8)
        self.up = nn.ConvTranspose2d(8, 4, 3, 2, 1, 1)
        with torch.no_grad():
            self.norm.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
            self.norm.running_var.uniform_(0.2, 2)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(torch.cat((self.first(x), self.pool(x)), 1)))
        out: Tensor = self.up(self.out_act(x + self.inner_act(self.inner(x))))
        return out


@pytest.fixture(scope="module")
def graph() -> ir.Model:
    torch.manual_seed(0)
    model = capture(Block().eval(), SIZE)
    fold_batchnorm.apply(model)
    activation_before_concat.apply(model)
    frame_io.apply(model, Preprocess(SIZE), SIZE, "both")
    return model


def frames(count: int = 6) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(count)]


def test_int8_stays_close_and_every_convolution_is_int8(graph: ir.Model) -> None:
    model = quantize(graph, calibrate(graph, frames()))
    got, want = Exact(model).run(frames()[0][None]), Exact(graph).run(frames()[0][None])
    noise = np.square(got["logits"] - want["logits"]).mean()
    assert 10 * np.log10(np.square(want["logits"]).mean() / noise) > 25
    for node in model.graph:
        if node.op_type in ("Conv", "ConvTranspose"):
            assert all(v is not None and v.producer().op_type == "DequantizeLinear" for v in node.inputs[:2])  # type: ignore[union-attr]
        if node.op_type == "Add":
            assert all(v is not None and v.producer().op_type == "DequantizeLinear" for v in node.inputs)  # type: ignore[union-attr]


def test_rules_of_the_graph(graph: ir.Model) -> None:
    """Zero points 0, int8, weights per output channel, float bias, activation unbroken, one scale at a Concat."""
    model = quantize(graph, calibrate(graph, frames()))
    scale = {}
    for node in model.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = ir.convenience.get_const_tensor(node.inputs[2])  # type: ignore[arg-type]
            assert zero is not None and zero.dtype == ir.DataType.INT8 and not zero.numpy().any()
            scale[node.outputs[0].name] = ir.convenience.get_const_tensor(node.inputs[1])  # type: ignore[arg-type]
        if node.op_type in ("Conv", "ConvTranspose"):
            weight = node.inputs[1].producer()  # type: ignore[union-attr]
            channels = node.outputs[0].shape[1]  # type: ignore[index]
            assert weight.inputs[1].const_value.shape == (channels,)  # type: ignore[union-attr]
            assert len(node.inputs) < 3 or node.inputs[2].dtype == ir.DataType.FLOAT  # type: ignore[union-attr]
        if node.op_type == "PRelu":
            assert node.inputs[0].producer().op_type in ("Conv", "Add")  # type: ignore[union-attr]
    concat = next(n for n in model.graph if n.op_type == "Concat")
    assert len({float(scale[v.name].numpy()) for v in concat.inputs}) == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("levels", [127, 64])
def test_weights_keep_to_their_range_and_ranges_travel(graph: ir.Model, levels: int) -> None:
    calibration = calibrate(graph, frames(), "minmax")
    model = quantize(graph, calibration, levels)
    weights = [v.const_value.numpy() for k, v in model.graph.initializers.items() if k.endswith("_int8")]  # type: ignore[union-attr]
    assert weights and max(int(np.abs(w.astype(int)).max()) for w in weights) == levels
    assert json.loads(model.metadata_props[RANGES]) == calibration.ranges


def test_digest_follows_what_it_should(graph: ir.Model) -> None:
    base = calibrate(graph, frames())
    assert base.digest == calibrate(graph, frames()).digest
    assert base.digest != calibrate(graph, frames(5)).digest
    assert base.digest != calibrate(graph, frames(), "minmax").digest
    changed = graph.clone()
    name, value = next((k, v) for k, v in changed.graph.initializers.items() if k.endswith("weight"))
    value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.001), name=name)  # type: ignore[union-attr]
    assert base.digest != calibrate(changed, frames()).digest


def test_no_images_is_an_error(graph: ir.Model) -> None:
    with pytest.raises(InputError, match="got no images"):
        calibrate(graph, [])


@settings(max_examples=50, deadline=None)
@given(
    arrays=st.lists(
        st.lists(st.floats(-1e4, 1e4, width=32, allow_subnormal=False), min_size=1, max_size=40),
        min_size=1,
        max_size=6,
    )
)
def test_histogram_loses_nothing_and_knows_the_peak(arrays: list[list[float]]) -> None:
    histogram = Histogram()
    for values in arrays:
        histogram.add(np.array(values, np.float32))
    everything = np.abs(np.concatenate([np.array(v, np.float32) for v in arrays]))
    assert histogram.counts.sum() == everything.size
    assert histogram.minmax() == everything.max()
    assert histogram.mse() <= histogram.minmax()


def test_mse_clips_outliers_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    even, spiked = Histogram(), Histogram()
    values = rng.uniform(-1, 1, 100_000).astype(np.float32)
    even.add(values)
    spiked.add(np.append(values, np.float32(4)))
    assert even.mse() > 0.98
    assert 1 < spiked.mse() < 3.5
