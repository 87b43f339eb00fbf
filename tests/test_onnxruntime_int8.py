"""The int8 form of ONNX Runtime against exact arithmetic on the Q/DQ graph that it was made from."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edgeseg import models
from edgeseg.export import onnxruntime as target
from edgeseg.export._exact import Exact
from edgeseg.export._qlinear import Kernel
from edgeseg.export.capture import capture
from edgeseg.export.passes import activation_before_concat, fold_batchnorm, frame_io, unpool
from edgeseg.export.passes._rewrite import array
from edgeseg.export.quantize.calibrate import calibrate
from edgeseg.export.quantize.plan import Plan
from edgeseg.export.quantize.qdq import quantize
from edgeseg.metrics import sqnr_db
from edgeseg.spec import Preprocess

SIZE = (32, 48)
FLOAT = ("Conv", "FusedConv", "PRelu", "Sigmoid", "QuickGelu")


class Whole(nn.Module):
    """Two convolutions whose weights are whole numbers of steps of a power of two, and an activation."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 5, 3, padding=2, dilation=2)
        self.activation, self.pool = activation, nn.MaxPool2d(2)
        with torch.no_grad():
            for conv in (self.first, self.last):
                steps = torch.randint(-127, 128, conv.weight.shape)
                steps[:, 0, 0, 0] = 127  # so that the step is as meant
                conv.weight.copy_(steps / 1024)
                assert conv.bias is not None
                conv.bias.copy_(torch.randint(-300, 300, conv.bias.shape) / 2**13)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.pool(self.activation(self.first(x))))
        return out


class Parts(nn.Module):
    """What EfficientDet is made of: SiLU, depthwise convolution, squeeze and excitation, sums of weighted maps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.deep = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.squeeze, self.excite, self.last = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.silu(self.first(x))
        y = functional.silu(self.deep(x))
        gate = self.excite(functional.silu(self.squeeze(y.mean((2, 3), keepdim=True)))).sigmoid()
        out: Tensor = self.last(0.3 * x + 0.6 * (y * gate))
        return out


def graph_of(network: nn.Module, size: tuple[int, int] = SIZE) -> ir.Model:
    model = capture(network.eval(), size)
    for rewrite in (fold_batchnorm, activation_before_concat, unpool):
        rewrite.apply(model)
    frame_io.apply(model, Preprocess(size), size, "logits")
    return model


def frames(size: tuple[int, int] = SIZE, count: int = 4) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(count)]


def session(model: ir.Model, folder: Path) -> ort.InferenceSession:
    target.compile(model, "int8", folder)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # as the runtime does
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    return ort.InferenceSession(folder / target.FILE, options, providers=["CPUExecutionProvider"])


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def slopes(*values: float) -> nn.PReLU:
    module = nn.PReLU(len(values))
    module.weight.data = torch.tensor(values)
    return module


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.125), slopes(-0.5, 0, 0.125, 0.25, 0.5, 1, -1, -0.125)],
    ids=["relu", "relu6", "leaky", "prelu"],
)
def test_where_scales_are_powers_of_two_not_a_bit_differs(activation: nn.Module, tmp_path: Path) -> None:
    model = graph_of(Whole(activation))
    found = calibrate(model, frames())
    ranges = {name: 127 * 2.0 ** np.ceil(np.log2(amax / 127) - 1) for name, amax in found.ranges.items()}  # clips
    model = quantize(model, replace(found, ranges=ranges))
    engine, frame = session(model, tmp_path), frames()[0][None]
    assert (engine.run(None, {"frame": frame})[0] == Exact(model).run(frame)["logits"]).all()
    assert operators(tmp_path / "optimised.onnx")["QLinearConv"] == 2 + isinstance(activation, nn.LeakyReLU | nn.PReLU)


def test_slopes_above_one_stay_as_they_are(tmp_path: Path) -> None:
    model = graph_of(Whole(slopes(1.5, 0, 0.125, 0.25, 0.5, 1, -1, 0.75)))
    model = quantize(model, calibrate(model, frames()))
    engine, frame = session(model, tmp_path), frames()[0][None]
    assert operators(tmp_path / "optimised.onnx")["PRelu"] == 1
    assert sqnr_db(Exact(model).run(frame)["logits"], engine.run(None, {"frame": frame})[0]) > 40


def test_parts_of_a_detector_are_integers(tmp_path: Path) -> None:
    model = graph_of(Parts())
    model = quantize(model, calibrate(model, frames()))
    engine, frame = session(model, tmp_path), frames()[0][None]
    assert sqnr_db(Exact(model).run(frame)["logits"], engine.run(None, {"frame": frame})[0]) > 35
    found = operators(tmp_path / target.FILE)
    assert found["QLinearConv"] >= 4 and found["QLinearSigmoid"] >= 3 and found["QLinearAdd"] == 1
    assert found["QLinearGlobalAveragePool"] == 1 and not found["QLinearLeakyRelu"]
    assert found["Mul"] == 1  # the frame's: the two weighted maps keep their steps


def test_every_convolution_of_enet_runs_in_int8_but_the_transposed(tmp_path: Path) -> None:
    size = (64, 96)
    model = graph_of(models.load("enet").module, size)
    model = quantize(model, calibrate(model, frames(size)))
    convolutions = sum(node.op_type == "Conv" for node in model.graph)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    session(model, tmp_path)
    found = operators(tmp_path / "optimised.onnx")
    assert not [kind for kind in FLOAT if found[kind]] and found["QLinearConv"] > convolutions
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before  # other targets read it, too


def test_kept_layers_stay_in_float(tmp_path: Path) -> None:
    model = graph_of(Whole(nn.ReLU()))
    calibration = calibrate(model, frames())
    for name in [k for k, nodes in Plan(model).layers().items() if nodes[0].op_type == "Conv"]:
        kept = quantize(model, calibration, keep=[name])
        engine, frame = session(kept, tmp_path), frames()[0][None]
        written = ir.load(tmp_path / target.FILE)
        assert [array(n.inputs[1]) is not None for n in written.graph if n.op_type == "Conv"] == [True]
        assert sum(n.op_type == "QLinearConv" for n in written.graph) == 1
        assert sqnr_db(Exact(kept).run(frame)["logits"], engine.run(None, {"frame": frame})[0]) > 40


def test_in_float_prelu_is_a_maximum_bit_for_bit(tmp_path: Path) -> None:
    model = graph_of(Whole(slopes(-0.3, 0, 0.1, 0.7, 1, -2.5, 0.33, 0.9)))
    target.compile(model, "fp32", tmp_path)
    assert not operators(tmp_path / target.FILE)["PRelu"]
    frame = frames()[0][None]
    assert (Exact(tmp_path / target.FILE).run(frame)["logits"] == Exact(model).run(frame)["logits"]).all()


@pytest.mark.parametrize("slope", [0.0, 1e-45, 1e-20])
def test_a_slope_next_to_nothing_leaves_a_kernel_of_finite_steps(slope: float) -> None:
    kernel = Kernel(np.full((2, 1, 1, 1), 5, np.int8), np.full(2, 0.01, np.float32), np.array([0.5, -0.5]))
    with np.errstate(all="raise", under="ignore"):
        values, steps, bias = kernel.times(np.full(2, slope, np.float32)).integers(0.1)
    assert (steps > 0).all() and np.isfinite(steps).all()
    assert np.abs(values * steps.reshape(-1, 1, 1, 1)).max() < 1e-6
    assert np.abs(bias * steps * np.float32(0.1)).max() < 1e-6


def test_the_frame_is_normalised_along_rows_to_the_same_bits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = capture(nn.Conv2d(3, 5, 1).eval(), SIZE)
    frame_io.apply(model, Preprocess(SIZE, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)), SIZE, "logits")
    before, frame = Exact(model).run(frames()[0][None])["logits"], frames()[0][None]
    target.wide(model)
    found = [array(n.inputs[1]) for n in model.graph if n.op_type in ("Sub", "Mul")]
    assert [None if v is None else v.shape for v in found] == [(1, 3, 1, SIZE[1])] * 2
    assert (Exact(model).run(frame)["logits"] == before).all()
