"""Activations: fused into the operator before where TFLite can, else in forms that XNNPACK takes.

PReLU (arXiv:1502.01852, eq. 1) has no int8 kernel there, so behind anything but a convolution it becomes a product, a
clamp and a sum.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, attribute, sole_user
from edgeseg.export.quantize.plan import silu
from edgeseg.export.tflite_writer.arithmetic import (
    CLAMP_1,
    NONE,
    RELU,
    RELU6,
    binary,
    clamped,
    filled,
    requantize,
)
from edgeseg.export.tflite_writer.depthwise import filtered
from edgeseg.export.tflite_writer.flatbuffer import Quantization, Tensor
from edgeseg.export.tflite_writer.graph import NHWC, Graph
from edgeseg.export.tflite_writer.scales import LEVELS, slopes
from edgeseg.export.tflite_writer.schema import schema

CLAMPS = {(0.0, np.inf): RELU, (0.0, 6.0): RELU6, (-1.0, 1.0): CLAMP_1}
FIXED = Quantization((1 / 256,), -128)  # what LOGISTIC and SOFTMAX must write in int8
NEAR = 1.1  # the few values that lie beyond saturate
LEAST_SLOPE = 1 / 256  # XNNPACK's least: it does not move even the lowest int8 step by half a step


def fuse(g: Graph, node: ir.Node) -> tuple[int, ir.Value]:
    """The activation that can be fused into ``node``, which is then done, and the value written."""
    user = sole_user(node.outputs[0])
    code = CLAMPS.get(_bounds(user)) if user is not None and user.op_type in ("Relu", "Clip") else None
    if user is None or code is None:
        return NONE, node.outputs[0]
    g.done.add(user)
    return code, user.outputs[0]


def _bounds(node: ir.Node) -> tuple[float, float]:
    """Between which values a Relu or Clip holds its output."""
    if node.op_type == "Relu":
        return 0.0, np.inf
    low, high = (array(v) for v in (*node.inputs[1:], None, None)[:2])
    return -np.inf if low is None else float(low), np.inf if high is None else float(high)


def lower_Relu(g: Graph, node: ir.Node) -> None:
    x, bounds = g.read(node.inputs[0]), _bounds(node)
    if bounds in CLAMPS:
        result = clamped(g, x.tensor, CLAMPS[bounds], g.quantization(node.outputs[0], x.tensor))
    else:
        result = _bounded(g, x.tensor, *bounds)
    g.place(node.outputs[0], result, x.layout)


lower_Clip = lower_Relu


def _bounded(g: Graph, x: Tensor, low: float, high: float) -> Tensor:
    for kind, bound in (("MAXIMUM", low), ("MINIMUM", high)):
        if np.isfinite(bound):
            x = g.op(kind, [x, _level(g, bound, x)], x.shape, schema.MaximumMinimumOptionsT())
    return x


def _level(g: Graph, value: float, like: Tensor) -> Tensor:
    """``value`` stored as ``like`` is."""
    if like.quantization is None:
        return filled(g, value, like)
    step = np.clip(round(value / like.scale) + like.quantization.zero, -LEVELS - 1, LEVELS)
    return g.file.constant(np.full([1] * len(like.shape), step, np.int8), like.quantization)


def lower_PRelu(g: Graph, node: ir.Node) -> None:
    x, given = g.read(node.inputs[0]), slopes(node)
    out = g.quantization(node.outputs[0], x.tensor)
    if (given == given.flat[0]).all():
        g.place(node.outputs[0], _leaky(g, x.tensor, float(given.flat[0]), out), x.layout)
        return
    if any(d != 1 for i, d in enumerate(given.shape[::-1]) if i != len(x.layout) - 2):
        raise InputError(f"PRelu '{node.outputs[0].name}': slopes must be one, or one for each channel")
    tensor, channels = g.ordered(x, NHWC), given.reshape(1, 1, -1)
    if out is None:
        result = g.op("PRELU", [tensor, g.file.constant(channels)], tensor.shape)
    else:
        result = _prelu_int8(g, tensor, channels, out)
    g.place(node.outputs[0], result)


lower_LeakyRelu = lower_PRelu


def _leaky(g: Graph, x: Tensor, slope: float, out: Quantization | None) -> Tensor:
    if slope == 0 or (out is not None and abs(slope) * x.scale / out.scale[0] < LEAST_SLOPE):
        return clamped(g, x, RELU, out)
    return g.op("LEAKY_RELU", [x], x.shape, schema.LeakyReluOptionsT(alpha=slope), out)


def _prelu_int8(g: Graph, x: Tensor, given: NDArray[np.float32], out: Quantization) -> Tensor:
    """y = x + max((a − 1) · x, 0) where a ≤ 1 and what is added stays near the scale of y; else
    y = max(x, 0) + a · min(x, 0)."""
    assert x.quantization is not None
    depth = (LEVELS + 1 + x.quantization.zero) * x.scale  # of the lowest x
    if given.max() <= 1 and np.abs(given - 1).max() * depth <= NEAR * LEVELS * out.scale[0]:
        return binary(g, "ADD", x, filtered(g, x, given - 1, out, activation=RELU), out=out)
    below = replace(Quantization.of(depth / (2 * LEVELS + 1)), zero=LEVELS)  # stores nothing above 0
    sloped = filtered(g, binary(g, "MUL", x, filled(g, 1.0, x), out=below), given, out)
    return binary(g, "ADD", clamped(g, x, RELU, out), sloped)


def lower_Sigmoid(g: Graph, node: ir.Node) -> None:
    x = g.read(node.inputs[0])
    if silu(node) is not None and x.tensor.dtype == "int8":  # rounded here alone, to half the step of a pair
        result = g.op("LOGISTIC", [x.tensor], x.tensor.shape, None, FIXED)
    else:
        result = _fixed(g, "LOGISTIC", x.tensor, node)
    g.place(node.outputs[0], result, x.layout)


def lower_Softmax(g: Graph, node: ir.Node) -> None:
    """TFLite's runs along the last dimension."""
    x = g.read(node.inputs[0])
    axis = attribute(node, "axis", -1) % len(x.layout)
    layout = (*(d for d in x.layout if d != axis), axis)
    result = _fixed(g, "SOFTMAX", g.ordered(x, layout), node, schema.SoftmaxOptionsT(beta=1.0))
    g.place(node.outputs[0], result, layout)


def _fixed(g: Graph, kind: str, x: Tensor, node: ir.Node, options: object = None) -> Tensor:
    """In int8 the step is TFLite's own. Where the graph asks for a finer one, as attention over many positions
    can, whose weights would all be 0, it is computed in float32."""
    out = g.quantization(node.outputs[0], x)
    if out is not None and out.scale[0] < FIXED.scale[0]:
        return requantize(g, g.op(kind, [g.real(x)], x.shape, options), out)
    return g.op(kind, [x], x.shape, options, FIXED if x.dtype == "int8" else None)
