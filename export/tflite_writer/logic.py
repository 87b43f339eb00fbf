"""Comparisons, booleans and Where, as arithmetic with the numbers 0 and 1 (see ``arithmetic``)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeseg.export.passes._rewrite import array, shape
from edgeseg.export.tflite_writer.arithmetic import (
    as_number,
    binary,
    equal_integers,
    less,
    number,
    opposite,
    requantize,
)
from edgeseg.export.tflite_writer.elementwise import operands, step_of
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
        opposite(g, t) if _is_negated(g, v) == wanted else t for t, v in zip(tensors, node.inputs, strict=True)
    ], layout


def _is_negated(g: Graph, value: ir.Value | None) -> bool:
    assert value is not None
    return value in g.values and g.values[value].negated


def lower_Where(g: Graph, node: ir.Node, scales: Scales) -> None:
    """mask · x + (1 − mask) · y: each product is a value or 0, so the sum is one of the two, exactly."""
    output = node.outputs[0]
    (mask, x, y), layout = operands(g, node)
    chosen = {"mask": mask}
