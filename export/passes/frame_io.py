"""Both ends move into the graph: a camera's frame in, the robot's answer out.

``frame`` uint8 N×H×W×3 RGB → float, the network's channel order, normalised, resized where the network's
size differs, or letterboxed; logits → resized to the frame → first maximum over the classes → ``labels`` uint8
N×H×W. A detector's outputs stay as they are. Only bytes cross the boundary, and no caller can preprocess differently
from training.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeseg.export.passes._rewrite import Rewriter, floats, shape
from edgeseg.spec import Preprocess


def apply(model: ir.Model, preprocess: Preprocess, frame: tuple[int, int], output: str = "labels") -> bool:
    """``frame`` is the camera's (height, width); ``output`` one of "labels", "logits", "both"."""
    rewriter = Rewriter(model)
    batch = _enter(rewriter, preprocess, frame)
    (logits,) = model.graph.outputs
    full = _to_frame(rewriter, logits, frame)
    outputs = {"labels": [_labels(rewriter, full, (batch, *frame))], "logits": [full]}
    outputs["both"] = outputs["labels"] + outputs["logits"]
    full.name = "logits"
    full.shape, full.dtype = ir.Shape([batch, shape(logits)[1], *frame]), ir.DataType.FLOAT
    model.graph.outputs[:] = outputs[output]
    rewriter.finish()
    return True


def apply_frame(model: ir.Model, preprocess: Preprocess, frame: tuple[int, int]) -> bool:
    """The first end alone; the outputs stay the network's."""
    rewriter = Rewriter(model)
    _enter(rewriter, preprocess, frame)
    rewriter.finish()
    return True


def _enter(r: Rewriter, preprocess: Preprocess, frame: tuple[int, int]) -> int:
    """``frame`` in place of the network's input; the batch size."""
    (x,) = r.graph.inputs
    batch = shape(x)[0]
    source = ir.Value(name="frame", shape=ir.Shape([batch, *frame, 3]), type=ir.TensorType(ir.DataType.UINT8))
    x.replace_all_uses_with(_normalise(r, source, preprocess, frame))
    r.graph.inputs[:] = [source]
    return batch


def _normalise(r: Rewriter, frame: ir.Value, p: Preprocess, size: tuple[int, int]) -> ir.Value:
    x = r.op("Cast", [frame], "frame_float", to=ir.DataType.FLOAT)
    x = r.op("Transpose", [x], "frame_nchw", perm=[0, 3, 1, 2])
    if p.order == "BGR":
        x = r.op("Gather", [x, r.const(np.array([2, 1, 0], np.int64), "bgr")], "frame_bgr", axis=1)
    inner = p.fitted(size)
    if size != inner:
        x = _resize(r, x, (shape(frame)[0], 3, *inner), "frame_resized")
    if any(p.mean):
        x = r.op("Sub", [x, r.const(floats(*p.mean).reshape(1, 3, 1, 1), "mean")], "frame_centred")
    x = r.op("Mul", [x, r.const(1 / floats(*p.std).reshape(1, 3, 1, 1), "inverse_std")], "frame_normalised")
    if inner == p.size:
        return x
    pads = np.array([0, 0, 0, 0, 0, 0, p.size[0] - inner[0], p.size[1] - inner[1]], np.int64)
    return r.op("Pad", [x, r.const(pads, "letterbox")], "frame_letterboxed", mode="constant")  # 0 is the mean


def _to_frame(r: Rewriter, logits: ir.Value, frame: tuple[int, int]) -> ir.Value:
    batch, classes, *size = shape(logits)
    if tuple(size) == frame:
        return logits
    logits.name = "logits_network"
    return _resize(r, logits, (batch, classes, *frame), "logits_frame")


def _resize(r: Rewriter, x: ir.Value, form: tuple[int, ...], name: str) -> ir.Value:
    """To the shape ``form``: bilinear, half-pixel centres, no antialiasing, as torch's ``interpolate(…,
    align_corners=False)``. Not by scales: ONNX rounds down, and 72 times float32(50 / 72) would be 49."""
    sizes = r.const(np.array(form, np.int64), f"{name}_sizes")
    attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return r.op("Resize", [x, None, None, sizes], name, **attributes)


def _labels(r: Rewriter, logits: ir.Value, form: tuple[int, ...]) -> ir.Value:
    best = r.op("ArgMax", [logits], "best_class", axis=1, keepdims=0, select_last_index=0)
    labels = r.op("Cast", [best], "labels", to=ir.DataType.UINT8)
    labels.shape, labels.dtype = ir.Shape(form), ir.DataType.UINT8
    return labels
