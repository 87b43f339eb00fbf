"""What only moves data: pads, concatenations, reshapes, channels to pixels and back."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, attribute, shape
from edgeseg.export.tflite_writer.arithmetic import binary, filled
from edgeseg.export.tflite_writer.elementwise import one_scale
from edgeseg.export.tflite_writer.flatbuffer import Tensor
from edgeseg.export.tflite_writer.graph import Graph, Layout, axis_of, onnx_order, stored_shape
from edgeseg.export.tflite_writer.padding import join, pad_edge, pad_zeros
from edgeseg.export.tflite_writer.schema import schema


def lower_Transpose(g: Graph, node: ir.Node) -> None:
    """Only what the dimensions are called changes."""
    x = g.stored(node.inputs[0])
    order = list(attribute(node, "perm", range(len(x.layout))[::-1]))
    g.place(node.outputs[0], x.tensor, tuple(order.index(d) for d in x.layout), x.negated)


def lower_Reshape(g: Graph, node: ir.Node) -> None:
    sizes = shape(node.outputs[0])
    g.place(node.outputs[0], g.reshape(g.plain(node.inputs[0]), sizes), onnx_order(len(sizes)))


lower_Flatten = lower_Squeeze = lower_Unsqueeze = lower_Reshape


def lower_Identity(g: Graph, node: ir.Node) -> None:
    g.values[node.outputs[0]] = g.stored(node.inputs[0])


def lower_Concat(g: Graph, node: ir.Node) -> None:
    """In int8 all parts take one scale."""
    parts = [g.read(v) for v in node.inputs]
    computed = [p for v, p in zip(node.inputs, parts, strict=True) if v in g.values]
    layout = (computed or parts)[0].layout
    tensors = one_scale(g, [g.ordered(p, layout) for p in parts], node.outputs[0])
    g.place(node.outputs[0], join(g, tensors, axis_of(attribute(node, "axis", 0), layout)), layout)


def lower_Pad(g: Graph, node: ir.Node) -> None:
    x, mode = g.read(node.inputs[0]), attribute(node, "mode", "constant")
    pads, tensor = _pads(node, x.layout), x.tensor
    if mode == "edge":
        for axis, (before, after) in enumerate(pads):
            tensor = pad_edge(g, tensor, axis, before, after)
    elif mode == "constant":
        tensor = _pad_constant(g, node, tensor, pads)
    elif mode == "reflect":
        tensor = _pad_reflected(g, tensor, pads)
    else:
        raise InputError(f"Pad '{node.outputs[0].name}': mode {mode} has no TFLite form")
    g.place(node.outputs[0], tensor, x.layout)


def _pads(node: ir.Node, layout: Layout) -> list[tuple[int, int]]:
    """(before, after) for each dimension as stored."""
    given, rank = array(node.inputs[1]), len(layout)
    axes = array(node.inputs[3]) if len(node.inputs) > 3 else None
    if given is None or (given < 0).any():
        raise InputError(f"Pad '{node.outputs[0].name}': its pads must be constant and not negative")
    named = range(rank) if axes is None else (axes % rank).tolist()
    before, after = given.reshape(2, -1).tolist()
    by_axis = {a: (b, e) for a, b, e in zip(named, before, after, strict=True)}
    return [by_axis.get(d, (0, 0)) for d in layout]


def _pad_constant(g: Graph, node: ir.Node, x: Tensor, pads: list[tuple[int, int]]) -> Tensor:
    given = array(node.inputs[2]) if len(node.inputs) > 2 else None
    value = 0 if given is None else given.item()
    if not value:
        return pad_zeros(g, x, pads)
    if isinstance(value, int):  # moved so that the value is 0, and back: exact for integers, and in XNNPACK
        offset = filled(g, value, x)
        return binary(g, "ADD", pad_zeros(g, binary(g, "SUB", x, offset), pads), offset)
    if x.dtype == "int8":
        raise InputError(f"int8: Pad '{node.outputs[0].name}' with {value}: only 0 is supported")
    sizes = [d + b + a for d, (b, a) in zip(x.shape, pads, strict=True)]
    fill = g.file.constant(np.array(value, np.float32))
    return g.op("PADV2", [x, g.ints(np.array(pads)), fill], sizes, schema.PadV2OptionsT())


def _pad_reflected(g: Graph, x: Tensor, pads: list[tuple[int, int]]) -> Tensor:
    sizes = [d + b + a for d, (b, a) in zip(x.shape, pads, strict=True)]
    options = schema.MirrorPadOptionsT(mode=schema.MirrorPadMode.REFLECT)
    return g.op("MIRROR_PAD", [x, g.ints(np.array(pads))], sizes, options)


def lower_DepthToSpace(g: Graph, node: ir.Node) -> None:
    if attribute(node, "mode", "DCR") != "DCR":
        raise InputError(f"DepthToSpace '{node.outputs[0].name}': mode CRD has no TFLite form, only DCR")
    options = schema.DepthToSpaceOptionsT(blockSize=attribute(node, "blocksize", 0))
    _blocks(g, node, "DEPTH_TO_SPACE", options)


def lower_SpaceToDepth(g: Graph, node: ir.Node) -> None:
    _blocks(g, node, "SPACE_TO_DEPTH", schema.SpaceToDepthOptionsT(blockSize=attribute(node, "blocksize", 0)))


def _blocks(g: Graph, node: ir.Node, kind: str, options: object) -> None:
    g.place(node.outputs[0], g.op(kind, [g.nhwc(node.inputs[0])], stored_shape(node.outputs[0]), options))
