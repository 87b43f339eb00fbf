"""Where scales come from, where they are written, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeseg.errors import InputError
from edgeseg.export import _targets, int8_rules
from edgeseg.export._exact import Exact
from edgeseg.export.capture import capture
from edgeseg.export.passes import activation_before_concat, fold_batchnorm, frame_io
from edgeseg.export.passes._rewrite import array
from edgeseg.export.quantize.calibrate import calibrate
from edgeseg.export.quantize.calibrators import minmax, mse
from edgeseg.export.quantize.equalize import channel_ranges, equalize
from edgeseg.export.quantize.heads import layers_of
from edgeseg.export.quantize.histogram import Histogram
from edgeseg.export.quantize.plan import Plan
from edgeseg.export.quantize.qdq import RANGES, quantize
from edgeseg.manifest import Manifest, ModelEntry, Weights
from edgeseg.metrics import sqnr_db
from edgeseg.runtimes._engine import Engine, _runtime
from edgeseg.spec import Preprocess, TensorSpec
from tests.targets import RUNNABLE

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


def captured(network: Callable[[], nn.Module], *rewrites: ModuleType, seed: int = 0) -> ir.Model:
    """The clean float graph of a ``network`` with seeded weights, from frames to labels and logits."""
    torch.manual_seed(seed)
    model = capture(network().eval(), SIZE)
    for rewrite in rewrites:
        rewrite.apply(model)
    frame_io.apply(model, Preprocess(SIZE), SIZE, "both")
    return model


@pytest.fixture(scope="module")
def graph() -> ir.Model:
    return captured(Block, fold_batchnorm, activation_before_concat)


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
    assert minmax(histogram) == everything.max()
    assert mse(histogram) <= minmax(histogram)


def test_mse_clips_outliers_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    even, spiked = Histogram(), Histogram()
    values = rng.uniform(-1, 1, 100_000).astype(np.float32)
    even.add(values)
    spiked.add(np.append(values, np.float32(4)))
    assert mse(even) > 0.98
    assert 1 < mse(spiked) < 3.5


class Uneven(nn.Module):
    """A small tensor that a convolution reads and a Concat joins with a large one, and channels of unlike range."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.act, self.depthwise = nn.PReLU(4), nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.out, self.up = nn.Conv2d(12, 6, 1), nn.ConvTranspose2d(6, 4, 2, 2)
        with torch.no_grad():
            self.small.weight.mul_(0.02 * torch.tensor([1, 5, 25, 1]).reshape(4, 1, 1, 1))
            self.large.weight.mul_(10)

    def forward(self, x: Tensor) -> Tensor:
        small, large = self.act(self.small(x)), self.large(x)
        out: Tensor = self.up(self.out(torch.cat((small, self.depthwise(small) + small, large), 1)))
        return out


@pytest.fixture(scope="module")
def uneven() -> ir.Model:
    return captured(Uneven, seed=1)


def noise_db(model: ir.Model, other: ir.Model) -> float:
    frame = frames()[0][None]
    return sqnr_db(Exact(model).run(frame)["logits"], Exact(other).run(frame)["logits"])


def test_a_small_tensor_keeps_its_scale_where_it_is_not_joined(uneven: ir.Model) -> None:
    calibration = calibrate(uneven, frames())
    model = quantize(uneven, calibration)
    steps = {
        n.outputs[0].name: float(np.max(n.inputs[1].const_value.numpy()))  # type: ignore[union-attr]
        for n in model.graph
        if n.op_type == "DequantizeLinear"
    }
    concat = next(n for n in model.graph if n.op_type == "Concat")
    joined = {steps[v.name] for v in concat.inputs}  # type: ignore[union-attr]
    depthwise = next(n for n in model.graph if n.op_type == "Conv" and n.attributes["group"].value == 4)
    assert len(joined) == 1
    assert steps[depthwise.inputs[0].name] < min(joined) / 10  # type: ignore[union-attr]


def test_balanced_channels_compute_the_same_and_lose_less(uneven: ir.Model, graph: ir.Model) -> None:
    for model in (uneven, graph):
        balanced = equalize(model, channel_ranges(model, frames()))
        assert noise_db(model, balanced) > 100
        weights = [{v.const_value.tobytes() for v in m.graph.initializers.values()} for m in (model, balanced)]  # type: ignore[union-attr]
        assert weights[0] != weights[1]
    balanced = equalize(uneven, channel_ranges(uneven, frames()))
    before, after = (noise_db(uneven, quantize(m, calibrate(m, frames()))) for m in (uneven, balanced))
    assert after > before


@settings(max_examples=10, deadline=None)
@given(st.floats(0.1, 1))
def test_balance_is_exact_for_any_share(share: float) -> None:
    torch.manual_seed(1)
    model = capture(Uneven().eval(), SIZE)
    frame_io.apply(model, Preprocess(SIZE), SIZE, "both")
    assert noise_db(model, equalize(model, channel_ranges(model, frames(2)), share)) > 100


def test_layers_that_are_kept_stay_in_float(graph: ir.Model) -> None:
    calibration, layers = calibrate(graph, frames()), Plan(graph).layers()
    everything = quantize(graph, calibration, keep=layers)
    assert not [n for n in everything.graph if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    name = next(k for k, v in layers.items() if v[0].op_type == "ConvTranspose")
    model = quantize(graph, calibration, keep=[name])
    kept = next(n for n in model.graph if n.op_type == "ConvTranspose")
    assert array(kept.inputs[1]).dtype == np.float32  # type: ignore[union-attr]
    assert kept.inputs[0].producer().op_type == "DequantizeLinear"  # type: ignore[union-attr]
    assert noise_db(graph, model) > noise_db(graph, quantize(graph, calibration))
    assert list(int8_rules.check(model)) == []
    with pytest.raises(InputError, match="no layer 'nothing'"):
        quantize(graph, calibration, keep=["nothing"])


def test_the_layers_of_an_output_are_those_that_serve_no_other() -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.a, self.b, self.c = (nn.Conv2d(3, 3, 1) for _ in range(4))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = self.body(x)
            return self.a(x), self.c(self.b(x).relu())

    model = capture(TwoHeads().eval(), SIZE, outputs=("first", "second"))
    frame_io.apply_frame(model, Preprocess(SIZE), SIZE)
    assert layers_of(model, ["first"]) == ["first"]
    relu = next(str(n.outputs[0].name) for n in model.graph if n.op_type == "Relu")
    assert layers_of(model, ["second"]) == [relu, "second"]
    assert len(layers_of(model, ["first", "second"])) == 4
    assert layers_of(model, []) == []


def manifest_of(target: str, model: ir.Model) -> Manifest:
    outputs = tuple(
        TensorSpec(str(o.name), tuple(int(d) for d in o.shape), "uint8" if o.name == "labels" else "float32")  # type: ignore[union-attr, arg-type]
        for o in model.graph.outputs
    )
    return Manifest(
        model=ModelEntry("block", "paper", "semantic", 1, 0.1, "", Weights("", "")), target=target, precision="int8",
        inputs=(TensorSpec("frame", (1, *SIZE, 3), "uint8"),), outputs=outputs, preprocess=Preprocess(SIZE), classes=(),
        ignore_index=None, files={}, calibration=None, toolchain={}, device=None, onnx_sha256="", created="",
    )  # fmt: skip


class Gates(nn.Module):
    """SiLUs, and a map that is weighted by a constant for a sum and read as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.silu(self.first(x))
        y = self.second(x)
        out: Tensor = self.last(0.3 * x + y.sigmoid() * y)
        return out


def test_a_silu_is_one_layer_and_rounded_once() -> None:
    model = captured(Gates)
    assert ["Sigmoid", "Mul"] in [[n.op_type for n in nodes] for nodes in Plan(model).layers().values()]
    quantized = quantize(model, calibrate(model, frames()))
    for node in (n for n in quantized.graph if n.op_type == "Sigmoid"):
        (use,) = node.outputs[0].uses()
        assert use.node.op_type == "Mul"
        assert node.inputs[0] in use.node.inputs  # both read the same pair


def test_a_product_with_a_constant_keeps_its_steps() -> None:
    model = captured(Gates)
    calibration = calibrate(model, frames())
    plan = Plan(model, calibration.ranges)
    products = [n for n in model.graph if n.op_type == "Mul" and plan.used(n.inputs[0])]
    (scaled,) = [n for n in products if array(n.inputs[1]) is not None]
    assert plan.range_of(str(scaled.outputs[0].name)) == pytest.approx(0.3 * plan.range_of(str(scaled.inputs[0].name)))  # type: ignore[union-attr]
    assert plan.range_of(str(scaled.outputs[0].name)) != calibration.ranges[str(scaled.outputs[0].name)]


@pytest.mark.parametrize("network", [Block, Gates])
@pytest.mark.parametrize("name", RUNNABLE)
def test_engines_run_what_is_part_int8_and_part_float(network: type[nn.Module], name: str, tmp_path: Path) -> None:
    graph = captured(network, fold_batchnorm, activation_before_concat)
    calibration, layers = calibrate(graph, frames()), list(Plan(graph).layers())
    target: Any = _targets.load(name, "int8")
    for i, keep in enumerate(([layers[0]], layers[1:3], layers[2::2], layers[-1:])):
        folder = tmp_path / str(i)
        folder.mkdir()
        model = quantize(graph, calibration, target.weight_levels(), keep)
        target.compile(model, "int8", folder)
        manifest = manifest_of(name, model)
        with Engine(manifest, _runtime(folder, manifest, 2)) as engine:
            got = engine.run({"frame": frames()[0][None]})["logits"]
        assert sqnr_db(Exact(model).run(frames()[0][None])["logits"], got) > 25


@pytest.mark.parametrize("name", RUNNABLE)
def test_engines_compute_silus_from_one_pair(name: str, tmp_path: Path) -> None:
    model = captured(Gates)
    target: Any = _targets.load(name, "int8")
    model = quantize(model, calibrate(model, frames()), target.weight_levels())
    target.compile(model, "int8", tmp_path)
    manifest = manifest_of(name, model)
    with Engine(manifest, _runtime(tmp_path, manifest, 2)) as engine:
        got = engine.run({"frame": frames()[0][None]})["logits"]
    assert sqnr_db(Exact(model).run(frames()[0][None])["logits"], got) > 35
