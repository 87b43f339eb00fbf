"""The rules of an int8 graph (docs/int8.md), which TensorRT ≥ 8 and every other target here are given.

int8 with zero points 0 and positive scales; weights per output channel, activations per tensor; biases in float; a
quantized weight only with a quantized input; each pair whole, with one scale; no pair between a convolution and its
activation; an Add that reads a pair reads one on each input.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.export.passes._rewrite import array, attribute
from edgeseg.export.quantize.plan import ACTIVATIONS, WEIGHTED
from edgeseg.export.quantize.qdq import KEPT

Said = tuple[str, str, str, str]
Q, DQ = "QuantizeLinear", "DequantizeLinear"


def check(model: ir.Model) -> Iterator[Said]:
    """(node, operator, problem, mend) of every node that breaks a rule."""
    kept = set(json.loads(model.metadata_props.get(KEPT, "[]")))
    for node in model.graph.all_nodes():
        said = None
        if node.outputs[0].name in kept:  # in float on request: it reads what it is given
            continue
        if node.op_type in (Q, DQ):
            said = _pair(node)
        elif node.op_type in WEIGHTED:
            said = _weighted(node)
        elif node.op_type == "Add":
            said = _add(node)
        if said:
            yield str(node.name or node.outputs[0].name), node.op_type, *said


def _pair(node: ir.Node) -> tuple[str, str] | None:
    scale, zero = array(node.inputs[1]), array(node.inputs[2]) if len(node.inputs) > 2 else None
    if node.op_type == DQ and (data := node.inputs[0]) is not None and data.dtype == ir.DataType.INT32:
        return "dequantizes an int32 bias", "leave biases in float32"
    if zero is None:
        return "no constant zero point", "give one, int8 and 0"
    if zero.dtype != np.int8:
        return f"{zero.dtype}, not int8", "quantize to int8 with zero point 0"
    if zero.any():
        return "a zero point that is not 0", "quantize symmetrically"
    if scale is None or not np.isfinite(scale).all() or not (scale > 0).all():
        return "a scale that is not a positive constant", "calibrate anew"
    if scale.size != zero.size:
        return f"{scale.size} scales with {zero.size} zero points", "give as many of each"
    return _per_channel(node, scale.size) or (_placed(node) if node.op_type == Q else _dequantized(node, scale))


def _per_channel(node: ir.Node, scales: int) -> tuple[str, str] | None:
    """Scales by channel are for weights: constants, or constants behind their Q."""
    if scales == 1:
        return None
    values = _constant_behind(node)
    if values is None:
        return "an activation with a scale by channel", "one scale for an activation"
    axis = attribute(node, "axis", 1)
    if not -values.ndim <= axis < values.ndim or values.shape[axis] != scales:
        return f"{scales} scales along axis {axis} of {list(values.shape)}", "one scale for each output channel"
    for use in node.outputs[0].uses():
        want = _channels(use.node, values.ndim)
        if use.node.op_type in WEIGHTED and use.idx == 1 and axis % values.ndim != want:
            return (
                f"scales along axis {axis} of the weights of '{use.node.name}'",
                f"one by output channel, axis {want}",
            )
    return None


def _placed(node: ir.Node) -> tuple[str, str] | None:
    users = list(node.outputs[0].uses())
    if not users or any(use.node.op_type != DQ for use in users):
        return "not followed by DequantizeLinear alone", "write pairs whole"
    source = node.inputs[0]
    producer = source.producer() if source is not None else None
    if producer is not None and producer.op_type in WEIGHTED:
        for use in users:
            after = [u.node for u in use.node.outputs[0].uses()]
            if len(after) == 1 and after[0].op_type in ACTIVATIONS and not _is_output(use.node):
                return f"a pair between '{producer.name}' and its {after[0].op_type}", "quantize behind the activation"
    return None


def _dequantized(node: ir.Node, scale: NDArray[Any]) -> tuple[str, str] | None:
    source = node.inputs[0]
    producer = source.producer() if source is not None else None
    if array(source) is not None:
        return None
    if producer is None or producer.op_type != Q:
        return "not behind QuantizeLinear", "write pairs whole"
    other = array(producer.inputs[1])
    return None if other is not None and np.array_equal(other, scale) else ("another scale than its Q's", "one scale")


def _weighted(node: ir.Node) -> tuple[str, str] | None:
    x, weight = (_dq(value) for value in node.inputs[:2])
    if (x is None) != (weight is None):
        which = "its input" if x is None else "its weights"
        return f"half quantized: {which} in float", "quantize both, or neither"
    if len(node.inputs) > 2 and _dq(node.inputs[2]) is not None:
        return "a quantized bias", "leave biases in float32"
    return None


def _add(node: ir.Node) -> tuple[str, str] | None:
    if any(array(value) is not None for value in node.inputs):
        return None
    lacking = [v for v in node.inputs if v is not None and _dq(v) is None]
    if len(lacking) == 1 and _is_float(lacking[0]):
        return f"one quantized and one float input ('{lacking[0].name}')", "a pair on each input"
    return None


def _dq(value: ir.Value | None) -> ir.Node | None:
    producer = value.producer() if value is not None else None
    return producer if producer is not None and producer.op_type == DQ else None


def _is_float(value: ir.Value) -> bool:
    return value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16)


def _is_output(node: ir.Node) -> bool:
    return node.outputs[0].is_graph_output()


def _constant_behind(node: ir.Node) -> NDArray[Any] | None:
    values = array(node.inputs[0])
    producer = node.inputs[0].producer() if node.inputs[0] is not None else None
    return array(producer.inputs[0]) if values is None and producer is not None and producer.op_type == Q else values


def _channels(node: ir.Node, rank: int) -> int:
    if node.op_type == "ConvTranspose":
        return 1
    return rank - 1 if node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0)) else 0
