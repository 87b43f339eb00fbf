"""Resize along height and width: bilinear, and nearest where TFLite picks the same elements as ONNX."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, attribute
from edgeseg.export.tflite_writer.arithmetic import requantize
from edgeseg.export.tflite_writer.flatbuffer import Tensor
from edgeseg.export.tflite_writer.graph import Graph, stored_shape
from edgeseg.export.tflite_writer.padding import join
from edgeseg.export.tflite_writer.schema import schema

HALF_PIXEL = ("half_pixel", "pytorch_half_pixel")  # they differ only where the output has length 1
ROUNDING: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "round_prefer_floor": lambda position: np.ceil(position - 0.5),
    "round_prefer_ceil": lambda position: np.floor(position + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def lower_Resize(g: Graph, node: ir.Node) -> None:
    x, output = g.nhwc(node.inputs[0]), node.outputs[0]
    sizes, mode = stored_shape(output), attribute(node, "mode", "nearest")
    if (sizes[0], sizes[3]) != (x.shape[0], x.shape[3]):
        raise _unsupported(node, f"from {x.shape} to {sizes}: only height and width can change")
    if mode not in ("nearest", "linear") or attribute(node, "antialias", 0):
        raise _unsupported(node, f"with mode {mode}, antialias {attribute(node, 'antialias', 0)}")
    result = _nearest(g, node, x, sizes) if mode == "nearest" else _bilinear(g, node, x, sizes)
    if mode == "linear" and (out := g.quantization(output, x)) is not None:
        result = requantize(g, result, out)
    g.place(output, result)


def _unsupported(node: ir.Node, how: str) -> InputError:
    return InputError(f"Resize '{node.outputs[0].name}' {how}: it has no TFLite form")


def _transformation(node: ir.Node) -> str:
    found: str = attribute(node, "coordinate_transformation_mode", "half_pixel")
    if found not in (*HALF_PIXEL, "align_corners", "asymmetric"):
        raise _unsupported(node, f"with coordinates {found}")
    return found


def _bilinear(g: Graph, node: ir.Node, x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    coordinates = _transformation(node)
    options = schema.ResizeBilinearOptionsT(alignCorners=coordinates == "align_corners")
    options.halfPixelCenters = coordinates in HALF_PIXEL
    return g.op("RESIZE_BILINEAR", [x, g.ints(sizes[1:3])], sizes, options)


def _nearest(g: Graph, node: ir.Node, x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    lengths = x.shape[1:3]
    wanted = [_picked(node, i, lengths[i], sizes[1 + i]) for i in range(2)]
    if all(np.array_equal(w, np.arange(2 * n) // 2) for w, n in zip(wanted, lengths, strict=True)):
        # XNNPACK has no RESIZE_NEAREST_NEIGHBOR, but interleaves channels.
        options = schema.DepthToSpaceOptionsT(blockSize=2)
        return g.op("DEPTH_TO_SPACE", [join(g, [x] * 4, 3)], sizes, options)
    for half in (False, True):
        if all(np.array_equal(w, _ours(n, len(w), half)) for w, n in zip(wanted, lengths, strict=True)):
            options = schema.ResizeNearestNeighborOptionsT(halfPixelCenters=half)
            return g.op("RESIZE_NEAREST_NEIGHBOR", [x, g.ints(sizes[1:3])], sizes, options)
    raise _unsupported(node, f"from {x.shape} to {sizes}: TFLite picks other neighbours")


def _picked(node: ir.Node, i: int, length: int, out: int) -> NDArray[np.int64]:
    """The element ONNX takes for each output along axis ``i`` of height and width (Resize, opset 18)."""
    position, coordinates = np.arange(out, dtype=np.float64), _transformation(node)
    given = array(node.inputs[2]) if len(node.inputs) > 2 else None
    scale = out / length if given is None or not given.size else float(given[2 + i])
    if coordinates == "align_corners":
        position = position * (length - 1) / max(out - 1, 1)
    else:
        shift = 0.5 if coordinates in HALF_PIXEL else 0.0
        position = (position + shift) / scale - shift
    picked = ROUNDING[attribute(node, "nearest_mode", "round_prefer_floor")](position)
    return np.asarray(np.clip(picked, 0, length - 1), np.int64)


def _ours(length: int, out: int, half: bool) -> NDArray[np.int64]:
    """The element RESIZE_NEAREST_NEIGHBOR takes for each output along an axis."""
    position = np.arange(out, dtype=np.float32) + np.float32(0.5 if half else 0)
    return np.asarray(np.minimum(np.floor(position * np.float32(length / out)), length - 1), np.int64)
