"""What only moves data: slices, pads, concatenations, reshapes, channels to pixels and back."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, attribute, shape
from edgeseg.export.tflite_writer.arithmetic import binary, constant, filled, number
from edgeseg.export.tflite_writer.elementwise import one_scale
from edgeseg.export.tflite_writer.flatbuffer import Tensor
from edgeseg.export.tflite_writer.graph import NHWC, Graph, axis_of, stored_shape
from edgeseg.export.tflite_writer.padding import cut, join, pad_edge, pad_zeros
from edgeseg.export.tflite_writer.scales import Scales

FEW = 8  # indices: so many slices are faster than a GATHER outside of XNNPACK


def lower_Transpose(g: Graph, node: ir.Node, scales: Scales) -> None:
    """Only what the dimensions are called changes."""
    assert node.inputs[0] is not None
    x = g.values.get(node.inputs[0]) or g.read(node.inputs[0])
    order = attribute(node, "perm", tuple(reversed(range(len(x.layout)))))
    g.place(node.outputs[0], x.tensor, tuple(list(order).index(d) for d in x.layout), x.negated)


def lower_Slice(g: Graph, node: ir.Node, scales: Scales) -> None:
    x = g.read(node.inputs[0])
    tensor = x.tensor
    given = [array(v) for v in (*node.inputs[1:], None, None)[:4]]
    if given[0] is None or given[1] is None:
        raise InputError(f"Slice '{node.outputs[0].name}': its bounds must be constant")
    count = len(given[0])
    axes = range(count) if given[2] is None else given[2].tolist()
    steps = [1] * count if given[3] is None else given[3].tolist()
    for start, stop, axis, step in zip(given[0].tolist(), given[1].tolist(), axes, steps, strict=True):
        where = axis_of(node, axis, x.layout)
        tensor = _sliced(g, tensor, where, range(*slice(start, stop, step).indices(tensor.shape[where])))
    g.place(node.outputs[0], tensor, x.layout)


def _sliced(g: Graph, x: Tensor, axis: int, picked: range) -> Tensor:
    if picked.step == 1 or len(picked) == 1:
        return cut(g, x, axis, picked.start, len(picked))
    if len(picked) <= FEW or picked.step < 0:
        return _gathered(g, x, axis, list(picked))
    return _phase(g, x, axis, picked)


def _phase(g: Graph, x: Tensor, axis: int, picked: range) -> Tensor:
    """Every n-th element. XNNPACK slices with step 1 alone: n neighbours become one element of a longer next
    dimension, of which a part is cut."""
    length, rank = picked.step * len(picked), len(x.shape)
    first = max(0, min(picked.start, x.shape[axis] - length))
    if axis + 1 == rank or first + length > x.shape[axis]:
        return _strided(g, x, axis, picked)
    block = cut(g, x, axis, first, length)
    sizes = list(block.shape)
    inner = sizes[axis + 1]
    sizes[axis], sizes[axis + 1] = len(picked), picked.step * inner
    part = cut(g, g.reshape(block, sizes), axis + 1, (picked.start - first) * inner, inner)
    return part


def _strided(g: Graph, x: Tensor, axis: int, picked: range) -> Tensor:
    begin, end, step, sizes = [0] * len(x.shape), list(x.shape), [1] * len(x.shape), list(x.shape)
    begin[axis], end[axis], step[axis], sizes[axis] = picked.start, picked.stop, picked.step, len(picked)
    return g.op("STRIDED_SLICE", [x, g.ints(begin), g.ints(end), g.ints(step)], sizes, schema.StridedSliceOptionsT())


def lower_Gather(g: Graph, node: ir.Node, scales: Scales) -> None:
    x, indices = g.read(node.inputs[0]), array(node.inputs[1])
    if indices is None or indices.ndim != 1:
        raise InputError(f"Gather '{node.outputs[0].name}': only a constant list of indices is supported")
    axis = axis_of(node, attribute(node, "axis", 0), x.layout)
    picked = (indices % x.tensor.shape[axis]).tolist()
    g.place(node.outputs[0], _gathered(g, x.tensor, axis, picked), x.layout)


def _gathered(g: Graph, x: Tensor, axis: int, picked: list[int]) -> Tensor:
    if len(picked) <= FEW:
        return join(g, [cut(g, x, axis, i, 1) for i in picked], axis)
    sizes = list(x.shape)
    sizes[axis] = len(picked)
    return g.op("GATHER", [x, g.ints(picked)], sizes, schema.GatherOptionsT(axis=axis))


def lower_Pad(g: Graph, node: ir.Node, scales: Scales) -> None:
    x, mode = g.read(node.inputs[0]), attribute(node, "mode", "constant")
    pads = _pads(g, node, x.layout)
    if mode == "edge":
        tensor = x.tensor
        for axis, (before, after) in enumerate(pads):
            tensor = pad_edge(g, tensor, axis, before, after)
    elif mode == "constant":
        tensor = _pad_constant(g, node, x.tensor, pads)
    else:
        raise InputError(f"Pad '{node.outputs[0].name}': mode {mode} has no TFLite form")
    g.place(node.outputs[0], tensor, x.layout)


def _pads(g: Graph, node: ir.Node, layout: tuple[int, ...]) -> list[tuple[int, int]]:
    given, rank = array(node.inputs[1]), len(layout)
    if given is None or (given < 0).any():
        raise InputError(f"Pad '{node.outputs[0].name}': its pads must be constant and not negative")
    axes = array(node.inputs[3]) if len(node.inputs) > 3 else None
    named = list(range(rank)) if axes is None else [int(a) % rank for a in axes]
    before, after = given.reshape(2, -1).tolist()
    by_axis = {a: (b, e) for a, b, e in zip(named, before, after, strict=True)}
    return [by_axis.get(d, (0, 0)) for d in layout]


def _pad_constant(g: Graph, node: ir.Node, x: Tensor, pads: list[tuple[int, int]]) -> Tensor:
    given = array(node.inputs[2]) if len(node.inputs) > 2 else None
    value = 0 if given is None else given.item()
    if not value:
        return pad_zeros(g, x, pads)
    assert node.inputs[0] is not None
    if node.inputs[0].dtype != ir.DataType.FLOAT:  # moved so that the value is 0, and back: exact for integers
        offset = number(g, value, x)
        return binary(g, "ADD", pad_zeros(g, binary(g, "SUB", x, offset), pads), offset)
    sizes = [d + b + a for d, (b, a) in zip(x.shape, pads, strict=True)]
    fill = filled(g, value, x) if x.dtype != "int8" else constant(g, np.float32([value]), x)
    return g.op("PADV2", [x, g.ints(np.array(pads)), g.reshape(fill, [])], sizes, schema.PadV2OptionsT())


def lower_Concat(g: Graph, node: ir.Node, scales: Scales) -> None:
    """In int8 all parts take one scale."""
    assert node.inputs[0] is not None
    output = node.outputs[0]
    parts = [g.read(v) for v in node.inputs]
    layout = next((p.layout for v, p in zip(node.inputs, parts, strict=True) if array(v) is None), parts[0].layout)
    tensors = [g.ordered(p, layout) for p in parts]
    if any(t.dtype == "int8" for t in tensors):
        tensors = one_scale(g, tensors, output, scales)
    g.place(output, join(g, tensors, axis_of(node, attribute(node, "axis", 0), layout)), layout)


def lower_DepthToSpace(g: Graph, node: ir.Node, scales: Scales) -> None:
    if attribute(node, "mode", "DCR") != "DCR":
        raise InputError(f"DepthToSpace '{node.outputs[0].name}': mode CRD has no TFLite form; permute its channels to DCR")
    options = schema.DepthToSpaceOptionsT(blockSize=attribute(node, "blocksize", 0))
    x = g.nhwc(node.inputs[0])
    g.place(node.outputs[0], g.op("DEPTH_TO_SPACE", [x], stored_shape(node.outputs[0], NHWC), options))


def lower_SpaceToDepth(g: Graph, node: ir.Node, scales: Scales) -> None:
    options = schema.SpaceToDepthOptionsT(blockSize=attribute(node, "blocksize", 0))
    x = g.nhwc(node.inputs[0])
    g.place(node.outputs[0], g.op("SPACE_TO_DEPTH", [x], stored_shape(node.outputs[0], NHWC), options))


def lower_Reshape(g: Graph, node: ir.Node, scales: Scales) -> None:
    sizes = shape(node.outputs[0])
    g.place(node.outputs[0], g.reshape(g.plain(node.inputs[0]), sizes), tuple(range(len(sizes))))


lower_Flatten = lower_Squeeze = lower_Unsqueeze = lower_Reshape


def lower_Identity(g: Graph, node: ir.Node, scales: Scales) -> None:
    assert node.inputs[0] is not None
    g.values[node.outputs[0]] = g.values.get(node.inputs[0]) or g.read(node.inputs[0])
