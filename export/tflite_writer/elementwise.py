"""Add, Sub, Mul, Max, and the frame's normalisation."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.export.passes._rewrite import array, shape, sole_user
from edgeseg.export.tflite_writer.activation import fuse
from edgeseg.export.tflite_writer.arithmetic import NUMBER, binary, constant, maximum, quantization, requantize
from edgeseg.export.tflite_writer.flatbuffer import Quantization, Tensor
from edgeseg.export.tflite_writer.graph import Graph, Layout, Placed
from edgeseg.export.tflite_writer.scales import Scales


def lower_Add(g: Graph, node: ir.Node, scales: Scales) -> None:
    _binary(g, node, "ADD", scales)


def lower_Sub(g: Graph, node: ir.Node, scales: Scales) -> None:
    if not _renamed(g, node):
        _binary(g, node, "SUB", scales)


def lower_Mul(g: Graph, node: ir.Node, scales: Scales) -> None:
    if not _renamed(g, node):
        _binary(g, node, "MUL", scales)


def lower_Max(g: Graph, node: ir.Node, scales: Scales) -> None:
    (first, *rest), layout = operands(g, node)
    out = step_of(node.outputs[0], first, scales)
    best = first if out is None else requantize(g, first, out)
    for other in rest:
        best = maximum(g, best, other if out is None else requantize(g, other, out))
    g.place(node.outputs[0], best, layout)


def _binary(g: Graph, node: ir.Node, kind: str, scales: Scales) -> None:
    (a, b), layout = operands(g, node)
    activation, output = fuse(g, node)
    g.place(output, binary(g, kind, a, b, activation, step_of(output, a, scales)), layout)


def step_of(output: ir.Value, x: Tensor, scales: Scales) -> Quantization | None:
    """The quantization of ``output`` where it is computed in int8 from ``x``."""
    if x.dtype != "int8":
        return None
    return quantization(scales.of(output)) if output.dtype == ir.DataType.FLOAT else NUMBER


def operands(g: Graph, node: ir.Node) -> tuple[list[Tensor], Layout]:
    """The inputs of an element-wise ``node`` in one layout, rank and arithmetic."""
    values = [v for v in node.inputs if v is not None]
    computed = {v: g.read(v) for v in values if array(v) is None}
    layout = max((p.layout for p in computed.values()), key=len)
    rank = max(len(shape(v)) for v in values)
    if rank > len(layout):
        layout = tuple(range(rank))
    tensors = {v: _ranked(g, p, layout) for v, p in computed.items()}
    if len({t.dtype for t in tensors.values()}) > 1:
        tensors = {v: g.real(t) for v, t in tensors.items()}
    partner = next(iter(tensors.values()))
    return [tensors[v] if v in tensors else constant(g, _array(v, layout), partner) for v in values], layout


def _ranked(g: Graph, placed: Placed, layout: Layout) -> Tensor:
    missing = len(layout) - len(placed.layout)
    if not missing:
        return g.ordered(placed, layout)
    plain = g.ordered(placed, tuple(range(len(placed.layout))))
    wide = g.reshape(plain, [1] * missing + list(plain.shape))
    return g.ordered(Placed(wide, tuple(range(len(layout)))), layout)


def _array(value: ir.Value, layout: Layout) -> NDArray[np.generic]:
    values = array(value)
    assert values is not None
    return values.reshape([1] * (len(layout) - values.ndim) + list(values.shape)).transpose(layout)


def _renamed(g: Graph, node: ir.Node) -> bool:
    """Normalisation of the frame's bytes by one factor or one whole offset is a matter of what they mean:
    it becomes the input tensor's quantization and costs nothing."""
    x, other = node.inputs[0], array(node.inputs[1])
    placed = g.values.get(x) if x is not None else None
    if x is None or placed is None or other is None or np.unique(other).size != 1 or sole_user(x) is None:
        return False
    old, value = placed.tensor.quantization, float(other.flat[0])
    if placed.tensor.dtype != "uint8" or old is None or placed.tensor not in g.inputs.values():
        return False
    if node.op_type == "Mul" and value > 0:
        new = Quantization((old.scale[0] * value,), old.zero)
    elif node.op_type == "Sub" and old.scale[0] == 1 and value in range(256 - old.zero):
        new = Quantization((1.0,), old.zero + int(value))
    else:
        return False
    g.place(node.outputs[0], g.file.renamed(placed.tensor, new), placed.layout)
    return True
