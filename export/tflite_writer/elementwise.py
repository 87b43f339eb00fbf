"""Add, Sub, Mul, Max, and the frame's normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.export.passes._rewrite import array, shape, sole_user
from edgeseg.export.tflite_writer.activation import fuse
from edgeseg.export.tflite_writer.arithmetic import as_number, binary, constant, maximum, requantize
from edgeseg.export.tflite_writer.flatbuffer import Quantization, Tensor
from edgeseg.export.tflite_writer.graph import Graph, Layout, Placed, onnx_order


def lower_Add(g: Graph, node: ir.Node) -> None:
    _binary(g, node, "ADD")


def lower_Sub(g: Graph, node: ir.Node) -> None:
    if not _renamed(g, node):
        _binary(g, node, "SUB")


def lower_Mul(g: Graph, node: ir.Node) -> None:
    if not _renamed(g, node):
        _binary(g, node, "MUL")


def _binary(g: Graph, node: ir.Node, kind: str) -> None:
    (a, b), layout = operands(g, node)
    activation, output = fuse(g, node)
    g.place(output, binary(g, kind, a, b, activation, g.quantization(output, a)), layout)


def lower_Max(g: Graph, node: ir.Node) -> None:
    tensors, layout = operands(g, node)
    best, *rest = one_scale(g, tensors, node.outputs[0])
    for other in rest:
        best = maximum(g, best, other)
    g.place(node.outputs[0], best, layout)


def one_scale(g: Graph, tensors: list[Tensor], output: ir.Value) -> list[Tensor]:
    """``tensors`` that are to be joined into ``output``; int8 ones come to one scale."""
    if len({t.quantization for t in tensors}) == 1:
        return tensors
    out = g.scales.of(output)
    return [requantize(g, t, out) for t in tensors]


def operands(g: Graph, node: ir.Node) -> tuple[list[Tensor], Layout]:
    """The inputs of an element-wise ``node`` in one layout, rank and arithmetic; booleans may be negated."""
    values = [v for v in node.inputs if v is not None]
    computed = {v: g.stored(v) if v.dtype == ir.DataType.BOOL else g.read(v) for v in values if array(v) is None}
    layout = max((p.layout for p in computed.values()), key=len)
    rank = max(len(shape(v)) for v in values)
    if rank > len(layout):
        layout = onnx_order(rank)
    tensors = {v: _ranked(g, p, layout) for v, p in computed.items()}
    partner = _partner(g, tensors)
    tensors = {v: as_number(g, t, partner) for v, t in tensors.items()}
    return [tensors[v] if v in tensors else constant(g, _array(v, layout), partner) for v in values], layout


def _partner(g: Graph, tensors: dict[ir.Value, Tensor]) -> Tensor:
    """A tensor in the arithmetic that all are brought into: that of the reals and integers, float32 where
    they differ."""
    leading = [t for v, t in tensors.items() if v.dtype != ir.DataType.BOOL] or list(tensors.values())
    return leading[0] if len({t.dtype for t in leading}) == 1 else g.real(leading[0])


def _ranked(g: Graph, placed: Placed, layout: Layout) -> Tensor:
    missing = len(layout) - len(placed.layout)
    if not missing:
        return g.ordered(placed, layout)
    plain = g.ordered(placed, onnx_order(len(placed.layout)))
    wide = g.reshape(plain, [1] * missing + list(plain.shape))
    return g.ordered(Placed(wide, onnx_order(len(layout))), layout)


def _array(value: ir.Value, layout: Layout) -> NDArray[Any]:
    values = array(value)
    assert values is not None
    return values.reshape([1] * (len(layout) - values.ndim) + list(values.shape)).transpose(layout)


def _renamed(g: Graph, node: ir.Node) -> bool:
    """Normalisation of the frame's bytes by one factor or one whole offset is a matter of what they mean:
    it becomes the input tensor's quantization and costs nothing."""
    x, given = node.inputs[0], array(node.inputs[1])
    if x not in g.values or given is None or np.unique(given).size != 1 or not _only_path(x):
        return False
    placed, value = g.stored(x), float(given.flat[0])
    old = placed.tensor.quantization
    if old is None or placed.tensor.index not in {t.index for t in g.inputs.values()}:
        return False
    if node.op_type == "Mul" and value > 0:
        new = Quantization((float(np.float32(old.scale[0] * value)),), old.zero)
    elif node.op_type == "Sub" and old.scale[0] == 1 and value in range(256 - old.zero):
        new = Quantization((1.0,), old.zero + int(value))
    else:
        return False
    g.place(node.outputs[0], g.file.renamed(placed.tensor, new), placed.layout)
    return True


def _only_path(value: ir.Value | None) -> bool:
    """Whether nothing else reads ``value`` or what it was made from."""
    while value is not None:
        if sole_user(value) is None:
            return False
        source = value.producer()
        value = source.inputs[0] if source is not None else None
    return True
