"""Products of matrices: BATCH_MATMUL, which takes either factor transposed as it lies."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, shape
from edgeseg.export.tflite_writer.flatbuffer import Quantization, Tensor
from edgeseg.export.tflite_writer.graph import Graph, Layout, onnx_order
from edgeseg.export.tflite_writer.scales import LEVELS
from edgeseg.export.tflite_writer.schema import schema


def lower_MatMul(g: Graph, node: ir.Node) -> None:
    """Both factors computed, or the second one constant; of the same rank, at least 2."""
    (left, right), output = node.inputs, node.outputs[0]
    assert left is not None and right is not None
    ranks = {len(shape(v)) for v in (left, right)}
    if len(ranks) != 1 or min(ranks) < 2:
        raise InputError(f"MatMul '{output.name}': factors of {shape(left)} and {shape(right)} have no TFLite form")
    x, turned = _factor(g, left)
    weights = _constant(g, right, x)
    y, other = (weights, False) if weights is not None else _factor(g, right)
    if x.dtype != y.dtype:
        x, y = g.real(x), g.real(y)
    options = schema.BatchMatMulOptionsT(adjX=turned, adjY=other, asymmetricQuantizeInputs=False)
    sizes = shape(output)
    g.place(output, g.op("BATCH_MATMUL", [x, y], sizes, options, g.quantization(output, x)), onnx_order(len(sizes)))


def _factor(g: Graph, value: ir.Value) -> tuple[Tensor, bool]:
    """The tensor, and whether its last two dimensions lie the other way round."""
    placed, order = g.read(value), onnx_order(len(shape(value)))
    turned: Layout = (*order[:-2], order[-1], order[-2])
    return (placed.tensor, True) if placed.layout == turned else (g.ordered(placed, order), False)


def _constant(g: Graph, value: ir.Value, partner: Tensor) -> Tensor | None:
    """A constant factor; in int8 under one scale, the only kind BATCH_MATMUL takes."""
    source = value.producer()
    if source is not None and source.op_type == "DequantizeLinear":
        values, scale = array(source.inputs[0]), array(source.inputs[1])
        if values is None or scale is None:
            return None
        values = values * scale  # scales run along the last dimension
    else:
        values = array(value)
    if values is None:
        return None
    if partner.dtype != "int8":
        return g.file.constant(values.astype(np.float32))
    step = Quantization.of(float(np.abs(values).max(initial=0)) / LEVELS or 1.0)
    return g.file.constant(np.round(values / np.float32(step.scale[0])).astype(np.int8), step)
