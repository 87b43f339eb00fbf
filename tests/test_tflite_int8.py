"""The TFLite writer in int8, against the quantized graph in exact arithmetic."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export import tflite
from edgeseg.export._exact import Exact
from edgeseg.export.passes import frame_io
from edgeseg.export.passes._rewrite import floats
from edgeseg.export.quantize.calibrate import calibrate
from edgeseg.export.quantize.qdq import quantize
from edgeseg.export.tflite_writer import write
from edgeseg.export.tflite_writer.inspect import Operator, operators
from edgeseg.metrics import sqnr_db
from edgeseg.spec import Preprocess
from tests.tflite_net import Build, Net, delegates, ints, run, slices

SIZE = (24, 32)


def frames(count: int) -> list[NDArray[np.uint8]]:
    """Smooth images: what a camera sees is not noise."""
    rng = np.random.default_rng(5)
    small = rng.integers(0, 256, (count, 3 * SIZE[0] // 8, SIZE[1] // 8)).astype(np.uint8)
    wide = small.repeat(8, 1).repeat(8, 2).reshape(count, 3, *SIZE).transpose(0, 2, 3, 1)
    return list(np.clip(wide + rng.normal(0, 9, wide.shape), 0, 255).astype(np.uint8))


def int8_model(build: Build, preprocess: Preprocess, ends: str = "both") -> ir.Model:
    net = Net((1, 3, *preprocess.size))
    net.ending(build(net))
    frame_io.apply(net.model, preprocess, SIZE, ends)
    return quantize(net.model, calibrate(net.model, frames(6), "minmax"))


def slopes(n: Net, low: float, high: float, count: int) -> NDArray[np.float32]:
    return n.rng.uniform(low, high, (count, 1, 1)).astype(np.float32)


def residual(n: Net, low: float = -0.1, high: float = 0.5) -> ir.Value:
    x = n.o("PRelu", n.conv(n.x, 3, 8), slopes(n, low, high, 8))
    y = n.o("PRelu", n.conv(x, 8, 4, 1), floats(0.2))
    y = n.o("PRelu", n.conv(n.o("Relu", n.conv(y, 4, 4, dilations=[2, 2], pads=[2] * 4)), 4, 8, 1), floats(-0.3))
    return n.conv(n.o("PRelu", n.o("Add", x, y), slopes(n, low, high, 8)), 8, 5, 1)


def sloped(n: Net) -> ir.Value:
    """PReLU behind every kind of convolution; slopes of both signs, none and above 1 among them."""
    x = n.o("PRelu", n.conv(n.x, 3, 8, strides=[2, 2]), floats(0.1, -0.2, 0, 1e-42, 1, 1.5, -1.2, 0.3).reshape(8, 1, 1))
    x = n.o("PRelu", n.conv(x, 8, 8, group=8), slopes(n, 0, 0.4, 8))
    return n.conv(n.o("PRelu", n.up(x, 8, 6, 2, strides=[2, 2]), slopes(n, -0.3, 0.3, 6)), 6, 5, 1)


def rescaled(n: Net) -> ir.Value:
    """Three maps come to one scale; one keeps its own beside it."""
    few, many = (n.o("Relu", n.conv(n.o("Mul", n.x, floats(k)), 3, 4)) for k in (0.043, 1.7))
    x = n.o("Relu", n.conv(n.o("Concat", few, many, n.o("Relu", n.conv(n.x, 3, 4)), axis=1), 12, 4))
    return n.conv(n.o("Concat", x, n.conv(few, 4, 4), axis=1), 8, 5, 1)


def branches(n: Net) -> ir.Value:
    x = n.o("Relu", n.conv(n.x, 3, 6, strides=[2, 2]))
    pooled = n.o("MaxPool", n.x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    x = n.o("Concat", x, n.conv(pooled, 3, 3, 1, group=3), axis=1)
    mean = n.o("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, count_include_pad=1)
    six = n.o("Clip", n.conv(mean, 9, 9), floats(0).reshape(()), floats(6).reshape(()))
    return n.up(n.up(six, 9, 6, 2, strides=[2, 2]), 6, 5, 3, strides=[2, 2], pads=[1] * 4, output_padding=[1, 1])


def chosen(n: Net) -> ir.Value:
    """The greater of four phases keeps its place, as max-unpooling does."""
    x = n.o("Relu", n.conv(n.x, 3, 4))
    parts = [slices(slices(x, n, [i], [99], [2], [2]), n, [j], [99], [3], [2]) for i in (0, 1) for j in (0, 1)]
    best = n.o("Max", n.o("Max", *parts[:2]), n.o("Max", *parts[2:]))
    kept = [n.o("Where", n.o("GreaterOrEqual", p, best), best, np.zeros(1, np.float32)) for p in parts]
    wide = n.o("DepthToSpace", n.o("Concat", *kept, axis=1), blocksize=2)
    return n.conv(n.o("Add", wide, n.o("Sigmoid", n.conv(n.o("GlobalAveragePool", x), 4, 4, 1))), 4, 5, 1)


def attended(n: Net) -> ir.Value:
    """Every position's answer is a mean over all of them, weighed by a softmax of products."""
    x = n.o("Relu", n.conv(n.x, 3, 6, strides=[4, 4]))
    flat = n.o("Reshape", x, ints(1, 6, 48))
    turned = n.o("Transpose", flat, perm=[0, 2, 1])
    weights = n.o("Softmax", n.o("MatMul", turned, flat), axis=1)
    y = n.o("Reshape", n.o("MatMul", flat, weights), ints(1, 6, 6, 8))
    return n.conv(n.o("Concat", x, y, axis=1), 12, 5, 1)


def thinly_attended(n: Net) -> ir.Value:
    """Over 768 positions, whose weights are all below half a step of TFLite's own softmax."""
    x = n.o("Relu", n.conv(n.x, 3, 6))
    flat = n.o("Reshape", x, ints(1, 6, 768))
    weights = n.o("Softmax", n.o("MatMul", n.o("Transpose", flat, perm=[0, 2, 1]), flat), axis=1)
    return n.conv(n.o("Reshape", n.o("MatMul", flat, weights), ints(1, 6, 24, 32)), 6, 5, 1)


def dead(n: Net) -> ir.Value:
    """Channels without weights, as pruning leaves them: what they give is their bias."""
    weights = n.weights(6, 3, 3, 3)
    weights[[2, 4]] = 0
    x = n.o("Relu", n.o("Conv", n.x, weights, floats(0.1, 0.2, 0.5, 0, 0, 0.3), pads=[1] * 4))
    return n.conv(x, 6, 5, 1)


@pytest.mark.parametrize(
    ("build", "preprocess", "least_db", "within_a_step"),
    [
        (residual, Preprocess(SIZE), 30, 0.95),
        (lambda n: residual(n, -0.5, 1.6), Preprocess(SIZE), 26, 0.8),  # slopes that no trained network had
        (residual, Preprocess(SIZE, (104.0, 110.0, 120.0), (60.0, 61.0, 62.0), "BGR"), 30, 0.95),
        (residual, Preprocess(SIZE, (127.0,) * 3, (128.0,) * 3), 30, 0.95),
        (residual, Preprocess((12, 16)), 30, 0.95),
        (sloped, Preprocess(SIZE), 45, 0.99),
        (rescaled, Preprocess(SIZE), 50, 1),
        (branches, Preprocess(SIZE), 50, 1),
        (chosen, Preprocess(SIZE), 45, 1),
        (dead, Preprocess(SIZE), 50, 1),
        (attended, Preprocess(SIZE), 30, 0.95),
        (thinly_attended, Preprocess(SIZE), 30, 0.95),
    ],
    ids=[
        "residual",
        "steep slopes",
        "mean, BGR",
        "one mean",
        "resized",
        "slopes",
        "scales",
        "branches",
        "chosen",
        "dead channels",
        "attention",
        "thin attention",
    ],
)
def test_int8_gives_what_the_quantized_graph_gives(
    build: Build, preprocess: Preprocess, least_db: float, within_a_step: float, tmp_path: Path
) -> None:
    model = int8_model(build, preprocess)
    step = np.diff(np.unique(Exact(model).run(frames(1)[0][None])["logits"])).min()
    for frame in frames(3):
        want, got = Exact(model).run(frame[None]), run(write(model), {"frame": frame[None]}, tmp_path)
        assert sqnr_db(want["logits"], got["logits"]) >= least_db
        assert (np.abs(want["logits"] - got["logits"]) <= 1.01 * step).mean() >= within_a_step
        assert (got["labels"] == got["logits"].argmax(1)).all()  # of equals the first


WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")


@pytest.mark.parametrize("build", [residual, sloped, rescaled, branches, chosen])
def test_int8_computes_in_int8_from_end_to_end(build: Build, tmp_path: Path) -> None:
    model = int8_model(build, Preprocess(SIZE), "labels")
    tflite.compile(model, "int8", tmp_path)
    first, second, *inside, best, last = operators(tmp_path / tflite.FILE)
    assert [first, second] == [
        Operator("DEQUANTIZE", ("uint8",), ("float32",)),
        Operator("QUANTIZE", ("float32",), ("int8",)),
    ]
    assert [best, last] == [
        Operator("ARG_MAX", ("int8", "int32"), ("int32",)),
        Operator("CAST", ("int32",), ("uint8",)),
    ]
    assert all(set(o.inputs) <= {"int8", "int32"} and o.outputs == ("int8",) for o in inside)
    assert all(sorted(o.inputs).count("int8") == 2 for o in inside if o.name in WEIGHTED)
    assert not {o.name for o in inside} & {"TRANSPOSE", "CUSTOM", "DEQUANTIZE"}
    assert delegates((tmp_path / tflite.FILE).read_bytes()) == 1


def test_a_missing_scale_is_asked_for() -> None:
    net = Net((1, 2, 4, 4))
    pairs = [[np.array(scale, np.float32), np.array(0, np.int8)] for scale in (0.1, 0.2)]
    parts = [net.o("DequantizeLinear", net.o("QuantizeLinear", net.x, *pair), *pair) for pair in pairs]
    with pytest.raises(InputError, match="'logits' has no scale"):
        write(net.ending(net.o("Concat", *parts, axis=1)))


def test_what_has_no_pair_behind_it_is_computed_in_float() -> None:
    net = Net((1, 2, 4, 4))
    pair = [np.array(0.1, np.float32), np.array(0, np.int8)]
    x = net.o("DequantizeLinear", net.o("QuantizeLinear", net.x, *pair), *pair)
    model = net.ending(net.o("Mul", x, x))
    frame = np.random.default_rng(0).normal(0, 3, (1, 2, 4, 4)).astype(np.float32)
    interpreter = Interpreter(model_content=write(model))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], frame)
    interpreter.invoke()
    got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    want = np.square(np.clip(np.round(frame / 0.1), -128, 127) * np.float32(0.1))
    assert np.abs(got - want).max() < 1e-4


def test_the_operators_can_be_listed(tmp_path: Path) -> None:
    tflite.compile(int8_model(branches, Preprocess(SIZE), "labels"), "int8", tmp_path)
    command = [sys.executable, "-m", "edgeseg.export.tflite_writer.inspect", str(tmp_path / tflite.FILE)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert listed[0] == "DEQUANTIZE uint8 → float32"
    assert "DEPTHWISE_CONV_2D int8, int8, int32 → int8" in listed
