"""Comparisons, booleans and Where, as arithmetic with the numbers 0 and 1 (see ``arithmetic``)."""

from __future__ import annotations

import onnx_ir as ir

from edgeseg.export.passes._rewrite import array
from edgeseg.export.tflite_writer.arithmetic import (
    binary,
    constant,
    equal_integers,
    less,
)
from edgeseg.export.tflite_writer.elementwise import one_scale, operands
from edgeseg.export.tflite_writer.flatbuffer import Tensor
from edgeseg.export.tflite_writer.graph import Graph, Layout
from edgeseg.export.tflite_writer.scales import Scales


def lower_Less(g: Graph, node: ir.Node, scales: Scales) -> None:
    _compare(g, node, swapped=False, negated=False)


def lower_Greater(g: Graph, node: ir.Node, scales: Scales) -> None:
    _compare(g, node, swapped=True, negated=False)


def lower_GreaterOrEqual(g: Graph, node: ir.Node, scales: Scales) -> None:
    _compare(g, node, swapped=False, negated=True)


def lower_LessOrEqual(g: Graph, node: ir.Node, scales: Scales) -> None:
    _compare(g, node, swapped=True, negated=True)


def _compare(g: Graph, node: ir.Node, swapped: bool, negated: bool) -> None:
    (a, b), layout = _comparable(g, node)
    g.place(node.outputs[0], less(g, b, a) if swapped else less(g, a, b), layout, negated)


def _comparable(g: Graph, node: ir.Node) -> tuple[tuple[Tensor, Tensor], Layout]:
    (a, b), layout = operands(g, node)
    if a.dtype == "int8" and a.quantization != b.quantization:
        a, b = g.real(a), g.real(b)  # of two scales neither holds the other's values
    return (a, b), layout


def lower_Equal(g: Graph, node: ir.Node, scales: Scales) -> None:
    (a, b), layout = _comparable(g, node)
    value = node.inputs[0]
    if value is not None and value.dtype == ir.DataType.FLOAT:
        differ = binary(g, "ADD", less(g, a, b), less(g, b, a))
        g.place(node.outputs[0], differ, layout, negated=True)
    else:
        g.place(node.outputs[0], equal_integers(g, a, b), layout)


def lower_Not(g: Graph, node: ir.Node, scales: Scales) -> None:
    x = g.read(node.inputs[0])
    g.place(node.outputs[0], x.tensor, x.layout, not x.negated)


def lower_And(g: Graph, node: ir.Node, scales: Scales) -> None:
    (a, b), layout = _masks(g, node, wanted=True)
    g.place(node.outputs[0], binary(g, "MUL", a, b), layout)


def lower_Or(g: Graph, node: ir.Node, scales: Scales) -> None:
    (a, b), layout = _masks(g, node, wanted=False)
    g.place(node.outputs[0], binary(g, "MUL", a, b), layout, negated=True)


def _masks(g: Graph, node: ir.Node, wanted: bool) -> tuple[list[Tensor], Layout]:
    """The two masks, 1 where the input is ``wanted``."""
    tensors, layout = operands(g, node)
    return [
        g.opposite(t) if _is_negated(g, v) == wanted else t for t, v in zip(tensors, node.inputs, strict=True)
    ], layout


def _is_negated(g: Graph, value: ir.Value | None) -> bool:
    assert value is not None
    return value in g.values and g.values[value].negated


def lower_Where(g: Graph, node: ir.Node, scales: Scales) -> None:
    """mask · x + (1 − mask) · y: of the products one is a value and one is 0, so the sum is exact."""
    output, values = node.outputs[0], list(node.inputs[1:])
    (mask, x, y), layout = operands(g, node)
    if _is_negated(g, node.inputs[0]):
        x, y, values = y, x, values[::-1]
    if output.dtype != ir.DataType.FLOAT:
        result = _chosen_integer(g, mask, x, y, values)
    else:
        parts = [(t, m) for t, m, v in ((x, mask, values[0]), (y, None, values[1])) if not _is_zero(v)]
        taken = one_scale(g, [t for t, _ in parts], output, scales)
        gated = [binary(g, "MUL", t, m or g.opposite(mask)) for t, (_, m) in zip(taken, parts, strict=True)]
        result = binary(g, "ADD", *gated) if len(gated) == 2 else gated[0]
    g.place(output, result, layout)


def _chosen_integer(g: Graph, mask: Tensor, x: Tensor, y: Tensor, values: list[ir.Value | None]) -> Tensor:
    """y + mask · (x − y)"""
    known = [array(v) for v in values]
    if known[0] is not None and known[1] is not None:
        difference = constant(g, (known[0] - known[1]).reshape([1] * len(mask.shape)), mask)
    else:
        difference = binary(g, "SUB", x, y)
    moved = binary(g, "MUL", mask, difference)
    return moved if _is_zero(values[1]) else binary(g, "ADD", moved, y)


def _is_zero(value: ir.Value | None) -> bool:
    known = array(value)
    return known is not None and not known.any()
