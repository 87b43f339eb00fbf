"""Comparisons, booleans and Where, as arithmetic with the numbers 0 and 1 (see ``arithmetic``)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeseg.export.passes._rewrite import array
from edgeseg.export.tflite_writer.arithmetic import binary, constant, less, unequal_integers
from edgeseg.export.tflite_writer.elementwise import one_scale, operands
from edgeseg.export.tflite_writer.flatbuffer import Tensor
from edgeseg.export.tflite_writer.graph import Graph, Layout


def lower_Less(g: Graph, node: ir.Node) -> None:
    (a, b), layout = _comparable(g, node)
    g.place(node.outputs[0], less(g, a, b), layout)


def lower_Greater(g: Graph, node: ir.Node) -> None:
    (a, b), layout = _comparable(g, node)
    g.place(node.outputs[0], less(g, b, a), layout)


def lower_GreaterOrEqual(g: Graph, node: ir.Node) -> None:
    (a, b), layout = _comparable(g, node)
    g.place(node.outputs[0], less(g, a, b), layout, negated=True)


def lower_LessOrEqual(g: Graph, node: ir.Node) -> None:
    (a, b), layout = _comparable(g, node)
    g.place(node.outputs[0], less(g, b, a), layout, negated=True)


def lower_Equal(g: Graph, node: ir.Node) -> None:
    (a, b), layout = _comparable(g, node)
    if node.inputs[0] is not None and node.inputs[0].dtype == ir.DataType.FLOAT:
        differ = binary(g, "ADD", less(g, a, b), less(g, b, a))
    else:
        differ = unequal_integers(g, a, b)
    g.place(node.outputs[0], differ, layout, negated=True)


def _comparable(g: Graph, node: ir.Node) -> tuple[list[Tensor], Layout]:
    tensors, layout = operands(g, node)
    if len({t.quantization for t in tensors}) > 1:  # of two scales neither holds the other's values
        tensors = [g.real(t) for t in tensors]
    return tensors, layout


def lower_Not(g: Graph, node: ir.Node) -> None:
    x = g.stored(node.inputs[0])
    g.place(node.outputs[0], x.tensor, x.layout, not x.negated)


def lower_And(g: Graph, node: ir.Node) -> None:
    (a, b), layout = _masks(g, node, wanted=True)
    g.place(node.outputs[0], binary(g, "MUL", a, b), layout)


def lower_Or(g: Graph, node: ir.Node) -> None:
    (a, b), layout = _masks(g, node, wanted=False)
    g.place(node.outputs[0], binary(g, "MUL", a, b), layout, negated=True)


def _masks(g: Graph, node: ir.Node, wanted: bool) -> tuple[list[Tensor], Layout]:
    """Numbers that are 1 where an input is ``wanted``."""
    tensors, layout = operands(g, node)
    pairs = zip(tensors, node.inputs, strict=True)
    return [g.opposite(t) if _negated(g, v) == wanted else t for t, v in pairs], layout


def _negated(g: Graph, value: ir.Value | None) -> bool:
    return value in g.values and g.stored(value).negated


def lower_Where(g: Graph, node: ir.Node) -> None:
    """mask · x + (1 − mask) · y: of the products one is a value and one is 0, so the sum is exact."""
    (mask, x, y), layout = operands(g, node)
    given = list(node.inputs[1:])
    if _negated(g, node.inputs[0]):
        x, y, given = y, x, given[::-1]
    if node.outputs[0].dtype != ir.DataType.FLOAT:
        result = _chosen_integer(g, mask, [x, y], given)
    else:
        result = _chosen_real(g, mask, [x, y], given, node.outputs[0])
    g.place(node.outputs[0], result, layout)


def _chosen_real(
    g: Graph, mask: Tensor, tensors: list[Tensor], given: list[ir.Value | None], output: ir.Value
) -> Tensor:
    kept = [i for i in (0, 1) if not _is_zero(given[i])] or [0]
    values = one_scale(g, [tensors[i] for i in kept], output)
    gates = [mask if i == 0 else g.opposite(mask) for i in kept]
    first, *rest = [binary(g, "MUL", v, m) for v, m in zip(values, gates, strict=True)]
    return binary(g, "ADD", first, rest[0]) if rest else first


def _chosen_integer(g: Graph, mask: Tensor, tensors: list[Tensor], given: list[ir.Value | None]) -> Tensor:
    """y + mask · (x − y)"""
    x, y = (array(v) for v in given)
    if x is not None and y is not None and x.size == y.size == 1:
        difference = constant(g, np.reshape(x - y, [1] * len(mask.shape)), mask)
    else:
        difference = binary(g, "SUB", tensors[0], tensors[1])
    moved = binary(g, "MUL", mask, difference)
    return moved if _is_zero(given[1]) else binary(g, "ADD", moved, tensors[1])


def _is_zero(value: ir.Value | None) -> bool:
    known = array(value)
    return known is not None and not known.any()
