"""The TFLite writer: every operator and attribute it takes, on LiteRT with XNNPACK, against ONNX Runtime."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import floats
from edgeseg.export.tflite_writer import write
from tests.tflite_net import Build, Net, compared, ints, slices, wholly_delegated


def where(n: Net, kind: str = "GreaterOrEqual") -> ir.Value:
    return n.o("Where", n.o(kind, n.x, n.conv(n.x, 6, 6)), n.x, np.zeros([], np.float32))


def masks(n: Net) -> ir.Value:
    columns = (np.arange(10) % 2 == 0).reshape(1, 1, 1, 10)
    a, b = n.o("Greater", n.x, floats(0.1)), n.o("Less", n.x, floats(0.5))
    both = n.o("And", n.o("And", a, n.o("Not", b)), columns)
    return n.o("Where", n.o("Or", both, n.o("Equal", n.x, floats(0.3))), n.conv(n.x, 6, 6), n.o("Relu", n.x))


def codes(n: Net) -> ir.Value:
    """Integers as max-unpooling computes with them."""
    keep = n.o("GreaterOrEqual", n.x, n.conv(n.x, 6, 6))
    code = n.o("Where", keep, np.array([1], np.int32), np.array([3], np.int32))
    code = n.o(
        "Max", n.o("Where", keep, code, np.array([4], np.int32)), np.arange(10, dtype=np.int32).reshape(1, 1, 1, 10)
    )
    wide = n.o("Pad", n.o("Add", code, code), ints(0, 0, 1, 1, 0, 0, 0, 2), np.array(-1, np.int32))
    return n.o("Where", n.o("Equal", wide, np.array([6], np.int32)), floats(2), floats(0))


def labels(n: Net) -> ir.Value:
    return n.o("Cast", n.o("ArgMax", n.conv(n.x, 6, 5), axis=1, keepdims=0), to=ir.DataType.UINT8)


def pool_mean(n: Net) -> ir.Value:
    return n.o("Mul", n.x, n.o("Sigmoid", n.conv(n.o("GlobalAveragePool", n.x), 6, 6, 1)))


def shuffle(n: Net) -> ir.Value:
    parts = n.o("Transpose", n.o("Reshape", n.x, ints(1, 3, 2, 8, 10)), perm=[0, 2, 1, 3, 4])
    return n.o("Reshape", parts, ints(1, 6, 8, 10))


def halves(n: Net) -> list[ir.Value]:
    node = ir.node("Split", [n.x], attributes={"axis": 1, "num_outputs": 2}, num_outputs=2)
    for i, output in enumerate(node.outputs):
        output.name = f"half_{i}"
    n.graph.append(node)
    return list(node.outputs)


def matrices(n: Net) -> tuple[ir.Value, ir.Value]:
    """1×6×80 and 1×80×6."""
    y = n.o("Reshape", n.conv(n.x, 6, 6), ints(1, 6, 80))
    return n.o("Reshape", n.x, ints(1, 6, 80)), n.o("Transpose", y, perm=[0, 2, 1])


def resize(n: Net, sizes: tuple[int, int], **attributes: Any) -> ir.Value:
    return n.op("Resize", [n.x, None, None, n.const(ints(1, 6, *sizes), "s")], "resize", **attributes)


INPUT = (1, 6, 8, 10)
CASES: dict[str, Build] = {
    "conv": lambda n: n.conv(n.x, 6, 4),
    "conv stride 2": lambda n: n.conv(n.x, 6, 4, strides=[2, 2]),
    "conv dilation 2": lambda n: n.conv(n.x, 6, 4, dilations=[2, 2], pads=[2] * 4),
    "conv 5x1": lambda n: n.o("Conv", n.x, n.weights(4, 6, 5, 1), pads=[2, 0, 2, 0]),
    "conv uneven pads": lambda n: n.conv(n.x, 6, 4, pads=[0, 2, 1, 0]),
    "conv groups": lambda n: n.conv(n.x, 6, 4, group=2),
    "conv depthwise": lambda n: n.conv(n.x, 6, 12, group=6, strides=[2, 2]),
    "relu6": lambda n: n.o("Clip", n.conv(n.x, 6, 4), floats(0).reshape(()), floats(6).reshape(())),
    "clip": lambda n: n.o("Clip", n.x, floats(-0.5).reshape(()), floats(0.7).reshape(())),
    "relu": lambda n: n.o("Relu", n.o("Relu", n.conv(n.x, 6, 4))),
    "prelu one slope": lambda n: n.o("PRelu", n.x, floats(-0.2)),
    "prelu slopes": lambda n: n.o("PRelu", n.x, floats(-0.2, 0, 0.3, 1, 1.5, 0.1).reshape(6, 1, 1)),
    "leaky": lambda n: n.o("LeakyRelu", n.x, alpha=0.1),
    "softmax": lambda n: n.o("Softmax", n.x, axis=1),
    "softmax rows": lambda n: n.o("Softmax", n.x, axis=3),
    "add": lambda n: n.o("Relu", n.o("Add", n.x, n.conv(n.x, 6, 6))),
    "sub mul": lambda n: n.o("Mul", n.o("Sub", n.x, n.weights(1, 6, 1, 1)), n.weights(6, 1, 1)),
    "max": lambda n: n.o("Max", n.x, n.conv(n.x, 6, 6), floats(0.2)),
    "squeeze and excite": pool_mean,
    "max pool": lambda n: n.o("MaxPool", n.x, kernel_shape=[2, 2], strides=[2, 2]),
    "max pool 3": lambda n: n.o("MaxPool", n.x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    "max pool same": lambda n: n.o("MaxPool", n.x, kernel_shape=[3, 3], pads=[1] * 4),
    "max pool ceil": lambda n: n.o("MaxPool", n.x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "average": lambda n: n.o("AveragePool", n.x, kernel_shape=[2, 2], strides=[2, 2]),
    "average, pads counted": lambda n: n.o(
        "AveragePool", n.x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, count_include_pad=1
    ),
    "average, pads left out": lambda n: n.o("AveragePool", n.x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    "mean": lambda n: n.o("ReduceMean", n.x, ints(2, 3), keepdims=0),
    "flatten": lambda n: n.o("Flatten", n.o("GlobalAveragePool", n.x)),
    "concat": lambda n: n.o("Concat", *[n.x, n.conv(n.x, 6, 3)] * 3, axis=1),
    "concat rows": lambda n: n.o("Concat", n.x, n.weights(1, 6, 2, 10), axis=2),
    "slice": lambda n: slices(n.x, n, [1, -4], [6, 100], [1, 3], [1, 1]),
    "slice phases": lambda n: slices(slices(n.x, n, [1], [8], [2], [2]), n, [0], [9], [3], [2]),
    "slice reversed": lambda n: slices(n.x, n, [5], [-100], [1], [-1]),
    "gather": lambda n: n.o("Gather", n.x, ints(2, 1, 0), axis=1),
    "pad": lambda n: n.o("Pad", n.x, ints(0, 1, 2, 0, 0, 2, 1, 1)),
    "split": lambda n: n.o("Add", *halves(n)),
    "matmul": lambda n: n.o("MatMul", *matrices(n)),
    "matmul, one transposed": lambda n: n.o("MatMul", n.o("Transpose", matrices(n)[0], perm=[0, 2, 1]), matrices(n)[0]),
    "matmul with weights": lambda n: n.o("MatMul", matrices(n)[0], n.weights(80, 5)[None]),
    "pad edge": lambda n: n.o("Pad", n.x, ints(0, 0, 1, 1, 0, 0, 0, 2), mode="edge"),
    "nearest twice": lambda n: resize(
        n, (16, 20), mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    ),
    "bilinear": lambda n: resize(n, (13, 25), mode="linear", coordinate_transformation_mode="half_pixel"),
    "bilinear corners": lambda n: resize(n, (13, 25), mode="linear", coordinate_transformation_mode="align_corners"),
    "bilinear down": lambda n: resize(n, (3, 7), mode="linear", coordinate_transformation_mode="half_pixel"),
    "depth to space": lambda n: n.o("DepthToSpace", n.conv(n.x, 6, 12), blocksize=2),
    "space to depth": lambda n: n.o("SpaceToDepth", n.x, blocksize=2),
    "channel shuffle": shuffle,
    "up 3 stride 2": lambda n: n.up(n.x, 6, 4, 3, strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]),
    "up 2 stride 2": lambda n: n.o("Relu", n.up(n.x, 6, 4, 2, strides=[2, 2])),
    "greater or equal, where": where,
    "less, where": lambda n: where(n, "LessOrEqual"),
    "and, or, not, equal": masks,
    "integer codes": codes,
}
OUTSIDE: dict[str, Build] = {  # what XNNPACK lacks: right all the same
    "nearest three times": lambda n: resize(n, (24, 30), mode="nearest"),
    "pad with a value": lambda n: n.o("Pad", n.x, ints(0, 0, 1, 1, 0, 0, 1, 1), np.array(1.5, np.float32)),
    "pad reflect": lambda n: n.o("Pad", n.x, ints(0, 0, 2, 0, 0, 0, 1, 3), mode="reflect"),
    "gather many": lambda n: n.o("Gather", n.x, ints(*np.arange(24) % 6), axis=1),
    "phases at the end": lambda n: slices(n.o("Transpose", n.x, perm=[0, 2, 3, 1]), n, [1], [6], [3], [2]),
    "labels": labels,
}


@pytest.mark.parametrize("name", [*CASES, *OUTSIDE])
def test_computes_what_onnx_says(name: str, tmp_path: Path) -> None:
    net = Net(INPUT)
    model = net.ending((CASES | OUTSIDE)[name](net))
    assert compared(model, tmp_path) <= (1e-4 if "bilinear" in name else 1e-5)
    assert compared(model, tmp_path, half=True) <= 1e-2
    assert wholly_delegated(write(model)) == (name in CASES)
    assert write(model) == write(model)


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(3, 12), st.integers(3, 12)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    group=st.sampled_from([1, 2, 4]),
)
def test_convolutions_of_any_geometry(
    tmp_path_factory: pytest.TempPathFactory,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: int,
    dilation: int,
    pads: tuple[int, ...],
    group: int,
) -> None:
    extents = [(k - 1) * dilation + 1 for k in kernel]
    assume(all(s + a + b >= e for s, e, a, b in zip(size, extents, pads[:2], pads[2:], strict=True)))
    net = Net((2, 4, *size))
    weights, geometry = net.weights(8, 4 // group, *kernel), {"strides": [stride] * 2, "dilations": [dilation] * 2}
    model = net.ending(net.o("Conv", net.x, weights, pads=list(pads), group=group, **geometry))
    assert compared(model, tmp_path_factory.mktemp("conv")) <= 1e-5


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 3),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    extra=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_transposed_convolutions_of_any_geometry(
    tmp_path_factory: pytest.TempPathFactory,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: int,
    pads: tuple[int, ...],
    extra: tuple[int, int],
) -> None:
    assume(max(extra) < stride)
    net = Net((2, 3, *size))
    outs = [
        (s - 1) * stride + k + e - a - b for s, k, e, a, b in zip(size, kernel, extra, pads[:2], pads[2:], strict=True)
    ]
    assume(min(outs) > 0)
    weights, geometry = net.weights(3, 4, *kernel), {"strides": [stride] * 2, "output_padding": list(extra)}
    model = net.ending(net.o("ConvTranspose", net.x, weights, 0.1 * net.weights(4), pads=list(pads), **geometry))
    assert compared(model, tmp_path_factory.mktemp("up")) <= 1e-5


@settings(max_examples=40)
@given(
    start=st.integers(-9, 9), stop=st.integers(-9, 12), axis=st.integers(1, 3), step=st.sampled_from([-2, -1, 1, 2, 3])
)
def test_slices_of_any_bounds(
    tmp_path_factory: pytest.TempPathFactory, start: int, stop: int, axis: int, step: int
) -> None:
    assume(len(range(*slice(start, stop, step).indices((1, 5, 7, 8)[axis]))) > 0)
    net = Net((1, 5, 7, 8))
    model = net.ending(slices(net.x, net, [start], [stop], [axis], [step]))
    assert compared(model, tmp_path_factory.mktemp("slice")) == 0


@settings(max_examples=30)
@given(
    before=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    after=st.tuples(st.integers(1, 19), st.integers(1, 19)),
    mode=st.sampled_from(["half_pixel", "align_corners", "asymmetric"]),
)
def test_bilinear_resizes_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, before: tuple[int, int], after: tuple[int, int], mode: str
) -> None:
    net = Net((1, 6, *before))
    model = net.ending(resize(net, after, mode="linear", coordinate_transformation_mode=mode))
    assert compared(model, tmp_path_factory.mktemp("resize")) <= 1e-4


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda n: n.o("Erf", n.x), "operator Erf ('logits') has no TFLite form"),
        (lambda n: n.o("MaxPool", n.x, kernel_shape=[2, 2], dilations=[2, 2]), "a dilated window"),
        (lambda n: n.o("ConvTranspose", n.x, n.weights(6, 1, 2, 2), group=6), "groups, dilation"),
        (lambda n: n.o("DepthToSpace", n.conv(n.x, 6, 8), blocksize=2, mode="CRD"), "mode CRD"),
        (lambda n: n.o("Conv", n.x, n.weights(4, 6, 3, 3), auto_pad="SAME_UPPER"), "auto_pad"),
        (lambda n: n.o("Pad", n.x, ints(0, 0, 1, 1, 0, 0, 1, 1), mode="wrap"), "mode wrap"),
    ],
)
def test_what_it_cannot_write_it_refuses_by_name(build: Build, reason: str) -> None:
    net = Net(INPUT)
    with pytest.raises(InputError, match=re.escape(reason)):
        write(net.ending(build(net)))
