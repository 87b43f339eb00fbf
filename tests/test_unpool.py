"""Unpooling as selects equals torch's, bit for bit: geometry, ties, collisions, and int8."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgeseg.errors import InputError
from edgeseg.export._exact import Exact
from edgeseg.export.capture import capture
from edgeseg.export.passes import frame_io, unpool
from edgeseg.export.passes._rewrite import clean
from edgeseg.export.quantize.calibrate import calibrate
from edgeseg.export.quantize.qdq import quantize
from edgeseg.spec import Preprocess

Window = tuple[int, int, int]  # kernel, stride, pad
WINDOWS = [(2, 2, 0), (3, 2, 1), (3, 3, 1), (3, 1, 1), (3, 2, 0), (2, 3, 0), (5, 2, 2), (4, 3, 1)]
CHANNELS = 3


def marks(height: int, width: int) -> NDArray[np.float32]:
    """Told apart by their places, so a value written to a wrong place shows."""
    return (np.arange(width) * 64 + np.arange(height)[:, None] * 4096).astype(np.float32)[None, None]


def torchs(window: Window, x: NDArray[np.float32]) -> NDArray[np.float32]:
    kernel, stride, pad = window
    values, indices = nn.functional.max_pool2d(torch.from_numpy(x), kernel, stride, pad, return_indices=True)
    values = values + torch.from_numpy(marks(*values.shape[2:]))
    return torch.ops.aten.max_unpool2d(values, indices, list(x.shape[2:])).numpy()  # type: ignore[no-any-return]


def rewritten(window: Window, size: tuple[int, int]) -> Any:
    """A graph of MaxPool, marks and MaxUnpool, rewritten, in ONNX Runtime."""
    kernel, stride, pad = window
    pooled = [(d + 2 * pad - kernel) // stride + 1 for d in size]
    pool: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    nodes = [
        helper.make_node("MaxPool", ["x"], ["v", "i"], **pool),
        helper.make_node("Add", ["v", "marks"], ["u"]),
        helper.make_node("MaxUnpool", ["u", "i", "shape"], ["y"], kernel_shape=[1, 1]),
    ]
    shape = [1, CHANNELS, *size]
    constants = [
        numpy_helper.from_array(marks(*pooled), "marks"),
        numpy_helper.from_array(np.array(shape, np.int64), "shape"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in "xy"]
    proto = helper.make_model(
        helper.make_graph(nodes, "unpool", ends[:1], ends[1:], constants),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    model = ir.from_proto(proto)
    clean(model)
    assert unpool.apply(model)
    assert not any(n.op_type == "MaxUnpool" or len(n.outputs) > 1 for n in model.graph)
    return ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.fixture(autouse=True)
def _one_thread():  # type: ignore[no-untyped-def]
    """Torch's threads race for a position that two windows write; alone, the last one stays."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def inputs(size: tuple[int, int], seed: int) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    shape = (1, CHANNELS, *size)
    few = [rng.integers(0, levels, shape).astype(np.float32) for levels in (1, 2, 3, 5)]  # full of ties
    return [rng.normal(0, 10, shape).astype(np.float32).round(3), *few, -few[2], np.maximum(few[3] - 2, 0)]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", [(12, 18), (13, 17)])
def test_equals_torch(window: Window, size: tuple[int, int]) -> None:
    session = rewritten(window, size)
    for x in inputs(size, 0):
        assert (session.run(None, {"x": x})[0] == torchs(window, x)).all()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(WINDOWS), st.integers(5, 24), st.integers(5, 24), st.integers(0, 10**6))
def test_equals_torch_at_any_size(window: Window, height: int, width: int, seed: int) -> None:
    session = rewritten(window, (height, width))
    for x in inputs((height, width), seed):
        assert (session.run(None, {"x": x})[0] == torchs(window, x)).all()


@pytest.mark.parametrize("size", [(15, 20), (45, 60), (7, 9), (1, 1), (2, 3)])
def test_windows_may_look_past_the_far_edge(size: tuple[int, int]) -> None:
    """``ceil_mode``, with which SegNet pools 45 rows to 23."""

    class Ceiled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            values, indices = nn.functional.max_pool2d_with_indices(x, (2, 2), ceil_mode=True)
            return nn.functional.max_unpool2d(values, indices, (2, 2), output_size=size)

    graph = capture(Ceiled(), size)
    assert unpool.apply(graph)
    session = ort.InferenceSession(ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    for x in inputs(size, 0):
        (got,) = session.run(None, {session.get_inputs()[0].name: x})
        assert (got == Ceiled()(torch.from_numpy(x)).numpy()).all()


class Doubled(nn.Module):
    """Pools what a convolution wrote, so that int8 has something to quantize."""

    def __init__(self, window: Window) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.pool = nn.MaxPool2d(*window, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x))
        values, indices = self.pool(x)
        out: Tensor = self.unpool(values, indices)
        return out


@pytest.mark.parametrize("window", WINDOWS[:2])
def test_int8_puts_the_maximum_where_torch_would(window: Window) -> None:
    """On the tensor that int8 pools (full of ties: rectified and rounded), the places are torch's."""
    torch.manual_seed(0)
    network = Doubled(window).eval()
    model = capture(network, (16, 24))
    unpool.apply(model)
    frame_io.apply(model, Preprocess((16, 24)), (16, 24), "logits")
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (16, 24, 3), np.uint8) // 64 * 64 for _ in range(4)]
    quantized = quantize(model, calibrate(model, frames))
    pooled = next(n for n in quantized.graph if n.op_type == "MaxPool").inputs[0]
    assert pooled is not None
    quantized.graph.outputs.append(pooled)
    for frame in frames:
        got = Exact(quantized).run(frame[None])
        values, indices = network.pool(torch.from_numpy(got[str(pooled.name)]))
        assert (got["logits"] == network.unpool(values, indices).numpy()).all()


def test_indices_from_elsewhere_are_refused() -> None:
    class Loose(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            indices = torch.arange(4).view(1, 1, 2, 2).expand(1, 3, 2, 2).contiguous()
            return torch.ops.aten.max_unpool2d(x[:, :, :2, :2], indices, [4, 4])  # type: ignore[no-any-return]

    with pytest.raises(InputError, match="takes its indices from no MaxPool"):
        unpool.apply(capture(Loose(), (4, 4)))
