"""Slice, Split and Gather, out of the contiguous slices that XNNPACK has."""

from __future__ import annotations

import onnx_ir as ir

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, attribute, shape
from edgeseg.export.tflite_writer.flatbuffer import Tensor
from edgeseg.export.tflite_writer.graph import Graph, axis_of
from edgeseg.export.tflite_writer.padding import cut, join
from edgeseg.export.tflite_writer.schema import schema

FEW = 8  # so many slices still beat a GATHER outside of XNNPACK


def lower_Slice(g: Graph, node: ir.Node) -> None:
    x = g.read(node.inputs[0])
    starts, stops, axes, steps = (array(v) for v in (*node.inputs[1:], None, None)[:4])
    if starts is None or stops is None:
        raise InputError(f"Slice '{node.outputs[0].name}': its bounds must be constant")
    tensor = x.tensor
    for i, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
        axis = axis_of(i if axes is None else int(axes[i]), x.layout)
        bounds = slice(start, stop, None if steps is None else int(steps[i]))
        tensor = _sliced(g, tensor, axis, range(*bounds.indices(tensor.shape[axis])))
    g.place(node.outputs[0], tensor, x.layout)


def lower_Split(g: Graph, node: ir.Node) -> None:
    x, start = g.read(node.inputs[0]), 0
    axis = attribute(node, "axis", 0) % len(x.layout)
    for output in node.outputs:
        length = shape(output)[axis]
        g.place(output, cut(g, x.tensor, axis_of(axis, x.layout), start, length), x.layout)
        start += length


def lower_Gather(g: Graph, node: ir.Node) -> None:
    x, indices = g.read(node.inputs[0]), array(node.inputs[1])
    if indices is None or indices.ndim != 1:
        raise InputError(f"Gather '{node.outputs[0].name}': its indices must be a constant list")
    axis = axis_of(attribute(node, "axis", 0), x.layout)
    picked = (indices % x.tensor.shape[axis]).tolist()
    g.place(node.outputs[0], _gathered(g, x.tensor, axis, picked), x.layout)


def _sliced(g: Graph, x: Tensor, axis: int, picked: range) -> Tensor:
    if picked.step == 1 or len(picked) == 1:
        return cut(g, x, axis, picked[0], len(picked))
    if picked.step < 0:
        return _gathered(g, x, axis, list(picked))
    return _phase(g, x, axis, picked)


def _phase(g: Graph, x: Tensor, axis: int, picked: range) -> Tensor:
    """Every n-th element: n neighbours become one element of an n times longer next dimension, of which a
    part is cut. Where that does not come out even, the operator for it, which XNNPACK lacks."""
    n, length = picked.step, picked.step * len(picked)
    first = max(0, min(picked.start, x.shape[axis] - length))
    if axis + 1 == len(x.shape) or first + length > x.shape[axis]:
        return _strided(g, x, axis, picked)
    block = cut(g, x, axis, first, length)
    sizes, inner = list(block.shape), block.shape[axis + 1]
    sizes[axis : axis + 2] = len(picked), n * inner
    return cut(g, g.reshape(block, sizes), axis + 1, (picked.start - first) * inner, inner)


def _strided(g: Graph, x: Tensor, axis: int, picked: range) -> Tensor:
    rank = len(x.shape)
    begin, end, step, sizes = [0] * rank, list(x.shape), [1] * rank, list(x.shape)
    begin[axis], end[axis], step[axis], sizes[axis] = picked.start, picked.stop, picked.step, len(picked)
    inputs = [x, g.ints(begin), g.ints(end), g.ints(step)]
    return g.op("STRIDED_SLICE", inputs, sizes, schema.StridedSliceOptionsT())


def _gathered(g: Graph, x: Tensor, axis: int, picked: list[int]) -> Tensor:
    if len(picked) <= FEW:
        return join(g, [cut(g, x, axis, i, 1) for i in picked], axis)
    sizes = list(x.shape)
    sizes[axis] = len(picked)
    return g.op("GATHER", [x, g.ints(picked)], sizes, schema.GatherOptionsT(axis=axis))
