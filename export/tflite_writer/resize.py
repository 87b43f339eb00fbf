"""Resize along height and width: bilinear, and nearest where TFLite picks the same elements as ONNX."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, attribute
from edgeseg.export.tflite_writer.arithmetic import quantization, requantize
from edgeseg.export.tflite_writer.flatbuffer import Tensor
from edgeseg.export.tflite_writer.graph import NHWC, Graph, stored_shape
from edgeseg.export.tflite_writer.padding import join
from edgeseg.export.tflite_writer.scales import Scales

BILINEAR = {
    "half_pixel": {"halfPixelCenters": True, "alignCorners": False},
    "pytorch_half_pixel": {"halfPixelCenters": True, "alignCorners": False},
    "align_corners": {"halfPixelCenters": False, "alignCorners": True},
    "asymmetric": {"halfPixelCenters": False, "alignCorners": False},
}


def lower_Resize(g: Graph, node: ir.Node, scales: Scales) -> None:
    x, output = g.nhwc(node.inputs[0]), node.outputs[0]
    sizes = stored_shape(output, NHWC)
    if (sizes[0], sizes[3]) != (x.shape[0], x.shape[3]):
        raise InputError(f"Resize '{output.name}': only height and width can be resized, not {x.shape} to {sizes}")
    if attribute(node, "mode", "nearest") == "nearest":
        g.place(output, _nearest(g, node, x, sizes))
        return
    result = _bilinear(g, node, x, sizes)
    if x.dtype == "int8":
        result = requantize(g, result, quantization(scales.of(output)))
    g.place(output, result)


def _bilinear(g: Graph, node: ir.Node, x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    transformation = attribute(node, "coordinate_transformation_mode", "half_pixel")
    known = attribute(node, "mode", "nearest") == "linear" and transformation in BILINEAR
    if not known or attribute(node, "antialias", 0):
        raise InputError(f"Resize '{node.outputs[0].name}': {transformation} with these attributes has no TFLite form")
    options = schema.ResizeBilinearOptionsT()
    vars(options).update(BILINEAR[transformation])
    return g.op("RESIZE_BILINEAR", [x, g.ints(sizes[1:3])], sizes, options)


def _nearest(g: Graph, node: ir.Node, x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    wanted = [_picked(node, i, x.shape[1 + i], sizes[1 + i]) for i in range(2)]
    if all(np.array_equal(w, np.arange(2 * n) // 2) for w, n in zip(wanted, x.shape[1:3], strict=True)):
        return _doubled(g, x, sizes)
    for half in (False, True):
        ours = [_tflite_picks(n, len(w), half) for w, n in zip(wanted, x.shape[1:3], strict=True)]
        if all(np.array_equal(w, o) for w, o in zip(wanted, ours, strict=True)):
            options = schema.ResizeNearestNeighborOptionsT(halfPixelCenters=half)
            return g.op("RESIZE_NEAREST_NEIGHBOR", [x, g.ints(sizes[1:3])], sizes, options)
    raise InputError(f"Resize '{node.outputs[0].name}': TFLite picks other neighbours from {x.shape} to {sizes}")


def _doubled(g: Graph, x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """XNNPACK has no RESIZE_NEAREST_NEIGHBOR, but interleaves channels."""
    wide = join(g, [x] * 4, 3)
    return g.op("DEPTH_TO_SPACE", [wide], sizes, schema.DepthToSpaceOptionsT(blockSize=2))


def _picked(node: ir.Node, i: int, length: int, out: int) -> NDArray[np.int64]:
    """The element that ONNX takes for each output along axis i of height and width (operator Resize, opset 18)."""
    position, scale = np.arange(out, dtype=np.float64), _scale(node, i, length, out)
    mode = attribute(node, "coordinate_transformation_mode", "half_pixel")
    if mode in ("half_pixel", "pytorch_half_pixel"):
        position = (position + 0.5) / scale - 0.5
    elif mode == "asymmetric":
        position = position / scale
    elif mode == "align_corners":
        position = position * (length - 1) / max(out - 1, 1)
    else:
        raise InputError(f"Resize '{node.outputs[0].name}': {mode} has no TFLite form")
    rounding = {
        "round_prefer_floor": np.ceil(position - 0.5),
        "round_prefer_ceil": np.floor(position + 0.5),
        "floor": np.floor(position),
        "ceil": np.ceil(position),
    }
    picked = rounding[attribute(node, "nearest_mode", "round_prefer_floor")]
    return np.clip(picked, 0, length - 1).astype(np.int64)


def _scale(node: ir.Node, i: int, length: int, out: int) -> float:
    scales = array(node.inputs[2]) if len(node.inputs) > 2 else None
    return out / length if scales is None or not scales.size else float(scales[2 + i])


def _tflite_picks(length: int, out: int, half: bool) -> NDArray[np.int64]:
    position = np.arange(out, dtype=np.float32) + np.float32(0.5 if half else 0)
    return np.minimum(np.floor(position * np.float32(length / out)), length - 1).astype(np.int64)
