"""Activations: fused into the operator before where TFLite can, else in forms that XNNPACK takes.

PReLU (arXiv:1502.01852, eq. 1) has no int8 kernel there, so it becomes a product, a clamp and a sum.
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
    LEVELS,
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
from edgeseg.export.tflite_writer.graph import NHWC, Graph
from edgeseg.export.tflite_writer.scales import Scales, slopes

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


def _leaky(g: Graph, x: Tensor, slope: float, out: Quantization | None) -> Tensor:
    # XNNPACK takes no slope that cannot move even the lowest int8 step by half a step; such a slope is 0.
    if abs(slope) * (x.scale / out.scale[0] if out else 1.0) < (1 / 256 if out else 1e-30):
        return clamped(g, x, RELU, out)
    return g.op("LEAKY_RELU", [x], x.shape, schema.LeakyReluOptionsT(alpha=slope), x.dtype, out)


def lower_PRelu(g: Graph, node: ir.Node, scales: Scales) -> None:
    x, given = g.read(node.inputs[0]), slopes(node)
    out = quantization(scales.of(node.outputs[0])) if x.tensor.dtype == "int8" else None
    if (given == given.flat[0]).all():
        g.place(node.outputs[0], _leaky(g, x.tensor, float(given.flat[0]), out), x.layout)
        return
    if any(d != 1 for i, d in enumerate(given.shape[::-1]) if i != len(x.layout) - 2):
        raise InputError(f"PRelu '{node.outputs[0].name}': slopes must be one, or one for each channel")
    tensor, channels = g.ordered(x, NHWC), given.reshape(1, 1, -1)
    if out is None:
        result = g.op("PRELU", [tensor, g.file.constant(channels)], tensor.shape)
    else:
        result = _prelu_int8(g, tensor, channels[None], out)
    g.place(node.outputs[0], result)


lower_LeakyRelu = lower_PRelu


def _prelu_int8(g: Graph, x: Tensor, given: NDArray[np.float32], out: Quantization) -> Tensor:
    """y = x + (a − 1) · min(x, 0). Where no slope is above 1, that is x + max((a − 1) · x, 0)."""
    tilt = constant(g, given - 1, x)
    reach = max(1.0, float(np.abs(given - 1).max()) * x.scale / out.scale[0])
    carried = quantization(out.scale[0] * reach)
    if (given <= 1).all():
        correction = binary(g, "MUL", x, tilt, RELU, carried)
    else:
        negative = Quantization((x.scale,), LEVELS)  # what is above 0 saturates to 0
        correction = binary(g, "MUL", binary(g, "MUL", x, filled(g, 1.0, x), out=negative), tilt, out=carried)
    return binary(g, "ADD", x, correction, out=out)


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
