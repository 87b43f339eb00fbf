"""Activations: fused into the operator before where TFLite can, else in forms that XNNPACK takes.

PReLU in int8: XNNPACK has none, so it becomes what it is made of (He et al., arXiv:1502.01852, eq. 1):
y = max(x, 0) + a·min(x, 0).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, attribute, shape, sole_user
from edgeseg.export.tflite_writer.arithmetic import (
    CLAMP_1,
    NONE,
    RELU,
    RELU6,
    binary,
    clamped,
    constant,
    filled,
    quantization,
    requantize,
)
from edgeseg.export.tflite_writer.flatbuffer import Quantization, Tensor
from edgeseg.export.tflite_writer.graph import NHWC, Graph, Placed
from edgeseg.export.tflite_writer.scales import Scales

CLAMPS = {(0.0, np.inf): RELU, (0.0, 6.0): RELU6, (-1.0, 1.0): CLAMP_1}
FIXED = Quantization((1 / 256,), -128)  # what LOGISTIC and SOFTMAX must write in int8


def fuse(g: Graph, node: ir.Node) -> tuple[int, ir.Value]:
    """The activation that can be fused into ``node``, which is then done, and the value written."""
    output = node.outputs[0]
    user = sole_user(output)
    code = _clamp(user) if user is not None else None
    if user is None or code is None:
        return NONE, output
    g.done.add(user)
    return code, user.outputs[0]


def _clamp(node: ir.Node) -> int | None:
    """The fused activation that a Relu or Clip is, if there is one."""
    return CLAMPS.get(_bounds(node)) if node.op_type in ("Relu", "Clip") else None


def _bounds(node: ir.Node) -> tuple[float, float]:
    if node.op_type == "Relu":
        return 0.0, np.inf
    low, high = (array(v) for v in (*node.inputs[1:], None, None)[:2])
    return -np.inf if low is None else float(low), np.inf if high is None else float(high)


def lower_Relu(g: Graph, node: ir.Node, scales: Scales) -> None:
    x, code = g.read(node.inputs[0]), _clamp(node)
    out = quantization(scales.of(node.outputs[0])) if x.tensor.dtype == "int8" else None
    result = _bounded(g, x.tensor, *_bounds(node)) if code is None else clamped(g, x.tensor, code, out)
    g.place(node.outputs[0], result, x.layout)


lower_Clip = lower_Relu


def _bounded(g: Graph, x: Tensor, low: float, high: float) -> Tensor:
    for kind, bound in (("MAXIMUM", low), ("MINIMUM", high)):
        if np.isfinite(bound):
            x = g.op(kind, [x, _level(g, bound, x)], x.shape, schema.MaximumMinimumOptionsT())
    return x


def _level(g: Graph, value: float, like: Tensor) -> Tensor:
    if like.dtype != "int8":
        return filled(g, value, like)
    step = np.clip(np.round(value / like.scale), -128, 127)
    return g.file.constant(np.full([1] * len(like.shape), step, np.int8), like.quantization)


def lower_LeakyRelu(g: Graph, node: ir.Node, scales: Scales) -> None:
    x = g.read(node.inputs[0])
    out = quantization(scales.of(node.outputs[0])) if x.tensor.dtype == "int8" else None
    g.place(node.outputs[0], leaky(g, x.tensor, attribute(node, "alpha", 0.01), out), x.layout)


def leaky(g: Graph, x: Tensor, slope: float, out: Quantization | None) -> Tensor:
    # XNNPACK takes no slope that cannot move even the lowest int8 step by half a step; such a slope is 0.
    if abs(slope) * (x.scale / out.scale[0] if out else 1.0) < (1 / 256 if out else 1e-30):
        return clamped(g, x, RELU, out)
    return g.op("LEAKY_RELU", [x], x.shape, schema.LeakyReluOptionsT(alpha=slope), x.dtype, out)


def lower_PRelu(g: Graph, node: ir.Node, scales: Scales) -> None:
    x, slopes = g.read(node.inputs[0]), _slopes(node)
    out = quantization(scales.of(node.outputs[0])) if x.tensor.dtype == "int8" else None
    if (slopes == slopes.flat[0]).all():
        g.place(node.outputs[0], leaky(g, x.tensor, float(slopes.flat[0]), out), x.layout)
        return
    tensor = g.ordered(x, NHWC)
    result = _prelu(g, tensor, slopes) if out is None else _prelu_int8(g, tensor, slopes, out)
    g.place(node.outputs[0], result)


def _slopes(node: ir.Node) -> NDArray[np.float32]:
    """One slope for each channel."""
    assert node.inputs[0] is not None
    given, rank = array(node.inputs[1]), len(shape(node.inputs[0]))
    if given is None or any(d != 1 for i, d in enumerate(given.shape[::-1]) if i != rank - 2):
        raise InputError(f"PRelu '{node.outputs[0].name}': its slopes must be constant, one or one for each channel")
    return given.astype(np.float32).ravel()


def _prelu(g: Graph, x: Tensor, slopes: NDArray[np.float32]) -> Tensor:
    return g.op("PRELU", [x, g.file.constant(slopes.reshape(1, 1, -1))], x.shape)


def _prelu_int8(g: Graph, x: Tensor, slopes: NDArray[np.float32], out: Quantization) -> Tensor:
    positive = binary(g, "MUL", x, filled(g, 1.0, x), RELU, out)
    if (slopes >= 0).all():
        lowered = binary(g, "MUL", x, constant(g, -slopes.reshape(1, 1, 1, -1), x), RELU, out)
        return binary(g, "SUB", positive, lowered, out=out)
    below = binary(g, "MUL", x, filled(g, -1.0, x), RELU)
    lowered = binary(g, "MUL", below, constant(g, slopes.reshape(1, 1, 1, -1), x), out=out)
    return binary(g, "SUB", positive, lowered, out=out)


def lower_Sigmoid(g: Graph, node: ir.Node, scales: Scales) -> None:
    x = g.read(node.inputs[0])
    g.place(node.outputs[0], _bytes_or_float(g, "LOGISTIC", x.tensor, None), x.layout)


def lower_Softmax(g: Graph, node: ir.Node, scales: Scales) -> None:
    """TFLite's runs along the last dimension."""
    x = g.read(node.inputs[0])
    axis = attribute(node, "axis", -1) % len(x.layout)
    layout = (*(d for d in x.layout if d != axis), axis)
    tensor = g.ordered(x, layout)
    g.place(node.outputs[0], _bytes_or_float(g, "SOFTMAX", tensor, schema.SoftmaxOptionsT(beta=1.0)), layout)


def _bytes_or_float(g: Graph, kind: str, x: Tensor, options: object) -> Tensor:
    return g.op(kind, [x], x.shape, options, x.dtype, FIXED if x.dtype == "int8" else None)
