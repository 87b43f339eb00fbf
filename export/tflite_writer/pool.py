"""Pooling and means."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, attribute
from edgeseg.export.tflite_writer.arithmetic import binary, constant
from edgeseg.export.tflite_writer.depthwise import filtered
from edgeseg.export.tflite_writer.flatbuffer import Tensor
from edgeseg.export.tflite_writer.graph import Graph, axis_of, stored_shape
from edgeseg.export.tflite_writer.padding import SAME, VALID, Window, pad_edge, pad_zeros, windows
from edgeseg.export.tflite_writer.schema import schema


def lower_MaxPool(g: Graph, node: ir.Node) -> None:
    """Pads hold nothing, so the edge, which is in the window anyway, may stand there: exact in int8 too."""
    x, along = g.nhwc(node.inputs[0]), _windows(node)
    padding = SAME if all(w.same for w in along) else VALID
    if padding == VALID:
        for axis, w in enumerate(along, start=1):
            x = pad_edge(g, x, axis, w.before, w.after)
    g.place(node.outputs[0], _pool(g, "MAX_POOL_2D", x, along, padding, stored_shape(node.outputs[0])))


def lower_AveragePool(g: Graph, node: ir.Node) -> None:
    x, along, output = g.nhwc(node.inputs[0]), _windows(node), node.outputs[0]
    out, sizes = g.quantization(output, x), stored_shape(output)
    if attribute(node, "ceil_mode", 0):
        raise InputError(f"AveragePool '{output.name}': ceil_mode has no TFLite form")
    padded = not all(w.valid for w in along)
    if padded:
        x = pad_zeros(g, x, [(0, 0), *((w.before, w.after) for w in along), (0, 0)])
    if out is None:
        result = _pool(g, "AVERAGE_POOL_2D", x, along, VALID, sizes)
    else:
        height, width = along[0].extent, along[1].extent
        kernel = np.full((height, width, x.shape[3]), 1 / (height * width), np.float32)
        result = filtered(g, x, kernel, out, (along[0].stride, along[1].stride))
    if padded and not attribute(node, "count_include_pad", 0):
        inside = np.outer(*(_share(w) for w in along))[None, :, :, None]
        result = binary(g, "MUL", result, constant(g, (1 / inside).astype(np.float32), result))
    g.place(output, result)


def _windows(node: ir.Node) -> list[Window]:
    if set(attribute(node, "dilations", (1, 1))) != {1}:
        raise InputError(f"{node.op_type} '{node.outputs[0].name}': a dilated window has no TFLite form")
    return windows(node, attribute(node, "kernel_shape", None))


def _pool(g: Graph, kind: str, x: Tensor, along: list[Window], padding: int, sizes: tuple[int, ...]) -> Tensor:
    options = schema.Pool2DOptionsT(padding=padding)
    options.filterHeight, options.filterWidth = (w.extent for w in along)
    options.strideH, options.strideW = (w.stride for w in along)
    return g.op(kind, [x], sizes, options)


def _share(w: Window) -> NDArray[np.float64]:
    """Which share of each window lies inside the input."""
    start = np.arange(w.out) * w.stride - w.before
    return (np.minimum(start + w.extent, w.length) - np.maximum(start, 0)) / w.extent


def lower_ReduceMean(g: Graph, node: ir.Node) -> None:
    given = array(node.inputs[1]) if len(node.inputs) > 1 else attribute(node, "axes", None)
    rank = len(g.read(node.inputs[0]).layout)
    axes = list(range(rank)) if given is None else [int(a) % rank for a in given]
    _mean(g, node, axes, bool(attribute(node, "keepdims", 1)))


def lower_GlobalAveragePool(g: Graph, node: ir.Node) -> None:
    _mean(g, node, [2, 3], keep=True)


def _mean(g: Graph, node: ir.Node, axes: list[int], keep: bool) -> None:
    x, output = g.read(node.inputs[0]), node.outputs[0]
    kept = [d for d in x.layout if d not in axes]
    layout = x.layout if keep else tuple(sorted(kept).index(d) for d in kept)
    inputs = [x.tensor, g.ints(sorted(axis_of(a, x.layout) for a in axes))]
    options, out = schema.ReducerOptionsT(keepDims=keep), g.quantization(output, x.tensor)
    g.place(output, g.op("MEAN", inputs, stored_shape(output, layout), options, out), layout)
