"""Pooling and means."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, attribute, shape
from edgeseg.export.tflite_writer.arithmetic import LEVELS, binary, constant, quantization
from edgeseg.export.tflite_writer.flatbuffer import Quantization, Tensor
from edgeseg.export.tflite_writer.graph import NHWC, Graph, axis_of, stored_shape
from edgeseg.export.tflite_writer.padding import SAME, VALID, Window, pad_edge, pad_zeros, windows
from edgeseg.export.tflite_writer.scales import Scales


def lower_MaxPool(g: Graph, node: ir.Node, scales: Scales) -> None:
    """Pads hold nothing, so the edge, which is in the window anyway, may stand there: exact in int8 too."""
    x, along = g.nhwc(node.inputs[0]), _windows(node)
    padding = SAME if all(w.same for w in along) else VALID
    if padding == VALID:
        for axis, w in enumerate(along, start=1):
            x = pad_edge(g, x, axis, w.before, w.after)
    g.place(node.outputs[0], _pool(g, "MAX_POOL_2D", x, along, padding, stored_shape(node.outputs[0], NHWC)))


def lower_AveragePool(g: Graph, node: ir.Node, scales: Scales) -> None:
    x, along, sizes = g.nhwc(node.inputs[0]), _windows(node), stored_shape(node.outputs[0], NHWC)
    padded = pad_zeros(g, x, [(0, 0), *((w.before, w.after) for w in along), (0, 0)]) if _padded(along) else x
    out = quantization(scales.of(node.outputs[0])) if x.dtype == "int8" else None
    if out is None:
        result = _pool(g, "AVERAGE_POOL_2D", padded, along, VALID, sizes)
    else:
        result = _average_int8(g, padded, along, sizes, out)
    if _padded(along) and not attribute(node, "count_include_pad", 0):
        inside = np.outer(*(_share(w) for w in along))[None, :, :, None]
        result = binary(g, "MUL", result, constant(g, (1 / inside).astype(np.float32), result))
    g.place(node.outputs[0], result)


def _windows(node: ir.Node) -> list[Window]:
    kernel = attribute(node, "kernel_shape", None)
    if set(attribute(node, "dilations", (1, 1))) != {1}:
        raise InputError(f"{node.op_type} '{node.outputs[0].name}': a dilated window has no TFLite form")
    if node.op_type == "AveragePool" and attribute(node, "ceil_mode", 0):
        raise InputError(f"AveragePool '{node.outputs[0].name}': ceil_mode has no TFLite form")
    return windows(node, kernel)


def _padded(along: list[Window]) -> bool:
    return not all(w.valid for w in along)


def _pool(g: Graph, kind: str, x: Tensor, along: list[Window], padding: int, sizes: tuple[int, ...]) -> Tensor:
    options = schema.Pool2DOptionsT(padding=padding)
    options.filterHeight, options.filterWidth = (w.extent for w in along)
    options.strideH, options.strideW = (w.stride for w in along)
    return g.op(kind, [x], sizes, options)


def _share(w: Window) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Which share of each window lies inside the input."""
    start = np.arange(w.out) * w.stride - w.before
    return (np.minimum(start + w.extent, w.length) - np.maximum(start, 0)) / w.extent


def _average_int8(g: Graph, x: Tensor, along: list[Window], sizes: tuple[int, ...], out: Quantization) -> Tensor:
    """XNNPACK averages no int8: a depthwise convolution with one weight does."""
    height, width, channels = along[0].extent, along[1].extent, x.shape[3]
    step = float(np.float32(1 / (LEVELS * height * width)))
    stored = Quantization((step,) * channels, axis=3)
    weights = g.file.constant(np.full((1, height, width, channels), LEVELS, np.int8), stored)
    bias = g.file.constant(np.zeros(channels, np.int32), Quantization((float(np.float32(step * x.scale)),) * channels))
    options = schema.DepthwiseConv2DOptionsT(padding=VALID, depthMultiplier=1)
    options.strideH, options.strideW = (w.stride for w in along)
    options.dilationHFactor = options.dilationWFactor = 1
    return g.op("DEPTHWISE_CONV_2D", [x, weights, bias], sizes, options, "int8", out)


def lower_ReduceMean(g: Graph, node: ir.Node, scales: Scales) -> None:
    x = g.read(node.inputs[0])
    given = array(node.inputs[1]) if len(node.inputs) > 1 else attribute(node, "axes", None)
    axes = list(range(len(x.layout))) if given is None else [int(a) for a in given]
    keep = bool(attribute(node, "keepdims", 1))
    _mean(g, node, axes, keep, scales)


def lower_GlobalAveragePool(g: Graph, node: ir.Node, scales: Scales) -> None:
    _mean(g, node, [2, 3], True, scales)


def _mean(g: Graph, node: ir.Node, axes: list[int], keep: bool, scales: Scales) -> None:
    x, output = g.read(node.inputs[0]), node.outputs[0]
    kept = tuple(d for d in x.layout if d not in {a % len(x.layout) for a in axes})
    layout = x.layout if keep else tuple(sorted(kept).index(d) for d in kept)
    stored = g.ints(sorted(axis_of(node, a, x.layout) for a in axes))
    out = quantization(scales.of(output)) if x.tensor.dtype == "int8" else None
    options = schema.ReducerOptionsT(keepDims=keep)
    g.place(output, g.op("MEAN", [x.tensor, stored], stored_shape(output, layout), options, x.tensor.dtype, out), layout)
