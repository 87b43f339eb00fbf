"""A detector's raw outputs become objects within the graph, as ``edgeseg.boxes`` makes them: anchors, decoding, score
threshold, suppression class by class, the frame's pixels, the best ones in order.

Anchors of which no class is over the threshold are left out first: nothing behind that depends on how many there are.
Suppression then ranks class logits, not scores: the sigmoid keeps their order and rounds some of them together, in each
engine differently. Of equal logits the lower class is the better one, within a class the first anchor, since the
operator names what stays class by class, the best first, and TopK keeps the first of equals.

Constants are named ``suppress_…``: targets that halve a graph's constants leave these in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from edgeseg.boxes import FARTHEST, anchor_boxes, frame_scale, logit
from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import Rewriter, floats, shape
from edgeseg.spec import Detection, Preprocess

RAW = ("class_logits", "box_deltas")
OBJECTS = ("boxes", "scores", "classes", "count")
PREFIX = "suppress_"
LOWEST = np.float32(-3e38)  # below every logit
INT64, INT32, FLOAT = ir.DataType.INT64, ir.DataType.INT32, ir.DataType.FLOAT


def apply(
    model: ir.Model, how: Detection, preprocess: Preprocess, frame: tuple[int, int], *, keep_raw: bool = False
) -> bool:
    """Behind ``class_logits`` float32 1×A×C and ``box_deltas`` float32 1×A×4: ``boxes`` float32 1×K×4 in pixels of
    ``frame`` (height, width), ``scores`` float32 1×K, ``classes`` int32 1×K, ``count`` int32 1, where K is the most
    detections of ``how``; what is past the count is 0. The raw outputs stay beside them with ``keep_raw``.

    Raises:
        InputError: a batch of more than one frame, or outputs of other names.
    """
    outputs = {str(o.name): o for o in model.graph.outputs}
    if set(outputs) != set(RAW) or shape(outputs[RAW[0]])[0] != 1:
        raise InputError(f"boxes are made of {', '.join(RAW)} of one frame, not of {', '.join(outputs)}")
    tail = _Tail(Rewriter(model), how)
    made = tail.run(outputs[RAW[0]], outputs[RAW[1]], preprocess, frame)
    model.graph.outputs[:] = [*made, *(outputs.values() if keep_raw else ())]
    tail.r.finish()
    return True


def is_part(name: str) -> bool:
    """Whether the constant called ``name`` is one of this pass."""
    return name.startswith(PREFIX)


class _Tail:
    def __init__(self, r: Rewriter, how: Detection) -> None:
        self.r, self.how = r, how

    def run(self, logits: ir.Value, deltas: ir.Value, preprocess: Preprocess, frame: tuple[int, int]) -> list[ir.Value]:
        count, classes = shape(logits)[1:]
        logits, deltas = self.reshape(logits, count, classes), self.reshape(deltas, count, 4)
        where = self.candidates(logits, count)
        logits = self.op("Gather", [logits, where], "candidate_logits", axis=0)
        boxes = self.decoded(deltas, where, anchor_boxes(self.how.anchors, preprocess.size))
        kinds, rows = self.suppressed(boxes, logits, classes)
        scores = self.best_of(logits, rows, kinds, classes)
        order, count_ = self.order(scores)
        pixels = self.on_frame(self.op("Gather", [boxes, rows], "kept_boxes", axis=0), preprocess, frame)
        found = {
            "boxes": self.padded(pixels, order, (4,), FLOAT),
            "scores": self.padded(self.op("Sigmoid", [scores], "kept_scores"), order, (), FLOAT),
            "classes": self.padded(self.op("Cast", [kinds], "kept_classes", to=INT32), order, (), INT32),
            "count": count_,
        }
        forms: dict[str, tuple[tuple[int, ...], ir.DataType]] = {
            "boxes": ((1, self.how.max_detections, 4), FLOAT), "scores": ((1, self.how.max_detections), FLOAT),
            "classes": ((1, self.how.max_detections), INT32), "count": ((1,), INT32),
        }  # fmt: skip
        return [self.output(value, name, *forms[name]) for name, value in found.items()]

    def candidates(self, logits: ir.Value, count: int) -> ir.Value:
        """Indices of the anchors that are over the threshold, and of the first one in any case: engines take empty
        tensors badly."""
        inputs, attributes = [logits], dict[str, Any](keepdims=0)
        if self.r.model.opset_imports[""] < 18:
            attributes["axes"] = [1]
        else:
            inputs.append(self.const(np.array([1], np.int64), "over_classes"))
        best = self.op("ReduceMax", inputs, "best", **attributes)
        over = self.op("Greater", [best, self.const(np.float32(self.threshold()), "threshold")], "over")
        first = self.const(np.arange(count) == 0, "first")
        return self.flat(self.op("NonZero", [self.op("Or", [over, first], "candidate")], "candidates"))

    def threshold(self) -> float:
        return float(np.clip(logit(self.how.score_threshold), LOWEST, -LOWEST))

    def decoded(self, deltas: ir.Value, where: ir.Value, anchors: Any) -> ir.Value:
        """``boxes.decode`` of the candidates: N×4, x0 y0 x1 y1."""
        deltas = self.op("Gather", [deltas, where], "candidate_deltas", axis=0)
        chosen = self.op("Gather", [self.const(anchors, "anchors"), where], "candidate_anchors", axis=0)
        middle, size = self.columns(chosen, (1, 0), "centre"), self.columns(chosen, (3, 2), "size")
        moved = self.op("Mul", [self.columns(deltas, (1, 0), "move"), size], "moved")
        middle = self.op("Add", [moved, middle], "middle")
        limits = [self.const(np.float32(sign * FARTHEST), "farthest") for sign in (-1, 1)]
        factor = self.op("Exp", [self.op("Clip", [self.columns(deltas, (3, 2), "grow"), *limits], "grown")], "factor")
        half = self.op("Mul", [self.op("Mul", [factor, size], "extent"), self.const(np.float32(0.5), "half")], "halved")
        corners = [self.op(kind, [middle, half], f"corner_{kind.lower()}") for kind in ("Sub", "Add")]
        return self.op("Concat", corners, "candidate_boxes", axis=1)

    def suppressed(self, boxes: ir.Value, logits: ir.Value, classes: int) -> tuple[ir.Value, ir.Value]:
        """Classes and rows (of the candidates) of what stays, int64 each."""
        by_class = self.op("Transpose", [logits], "by_class", perm=[1, 0])
        inputs = [
            self.reshape(boxes, 1, -1, 4), self.reshape(by_class, 1, classes, -1),
            self.const(np.array([self.how.max_detections], np.int64), "most"),
            self.const(floats(self.how.iou_threshold), "overlap"), self.const(floats(self.threshold()), "least"),
        ]  # fmt: skip
        stays = self.op("NonMaxSuppression", inputs, "stays")
        kinds, rows = (self.flat(self.columns(stays, (column,), "stays")) for column in (1, 2))
        return kinds, rows

    def best_of(self, logits: ir.Value, rows: ir.Value, kinds: ir.Value, classes: int) -> ir.Value:
        """The logits of ``kinds`` in ``rows``."""
        start = self.op("Mul", [rows, self.const(np.array([classes], np.int64), "classes")], "row_start")
        return self.op("Gather", [self.flat(logits), self.op("Add", [start, kinds], "place")], "kept_logits", axis=0)

    def order(self, logits: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Which of what stays comes where, of K more that are none, and how many are some."""
        most = self.how.max_detections
        none = self.const(np.full(most, LOWEST), "none")
        all_ = self.op("Concat", [logits, none], "ranked_logits", axis=0)
        size = self.const(np.array([most], np.int64), "size")
        node = ir.node("TopK", [all_, size], attributes={"axis": 0, "largest": 1, "sorted": 1}, num_outputs=2)
        node.name = f"{PREFIX}ranked"
        for value, name in zip(node.outputs, ("best_logits", "order"), strict=True):
            value.name = f"{PREFIX}{name}"
        self.r.graph.append(node)
        some = self.op("Greater", [node.outputs[0], self.const(LOWEST, "lowest")], "some")
        some = self.op("Cast", [some], "some_int", to=INT32)
        return node.outputs[1], self.op("ReduceSum", [some, self.const(np.array([0], np.int64), "axis")], "sum")

    def on_frame(self, boxes: ir.Value, preprocess: Preprocess, frame: tuple[int, int]) -> ir.Value:
        scaled = self.op("Mul", [boxes, self.const(frame_scale(preprocess, frame), "scale")], "scaled")
        low = self.op("Max", [scaled, self.const(floats(0), "zero")], "from_zero")
        return self.op("Min", [low, self.const(floats(*frame[::-1], *frame[::-1]), "frame")], "on_frame")

    def padded(self, values: ir.Value, order: ir.Value, rest: tuple[int, ...], dtype: ir.DataType) -> ir.Value:
        nothing = self.const(np.zeros((self.how.max_detections, *rest), dtype.numpy()), "nothing")
        whole = self.op("Concat", [values, nothing], "whole", axis=0)
        return self.op("Gather", [whole, order], "ordered", axis=0)

    def output(self, value: ir.Value, name: str, form: tuple[int, ...], dtype: ir.DataType) -> ir.Value:
        made = self.reshape(value, *form)
        made.name, made.shape, made.dtype = name, ir.Shape(form), dtype
        return made

    def op(self, kind: str, inputs: list[ir.Value], name: str, **attributes: Any) -> ir.Value:
        return self.r.op(kind, inputs, PREFIX + name, **attributes)

    def const(self, values: Any, name: str) -> ir.Value:
        return self.r.const(values, PREFIX + name)

    def columns(self, x: ir.Value, which: tuple[int, ...], name: str) -> ir.Value:
        return self.op("Gather", [x, self.const(np.array(which, np.int64), f"{name}_columns")], name, axis=1)

    def reshape(self, x: ir.Value, *form: int) -> ir.Value:
        return self.op("Reshape", [x, self.const(np.array(form, np.int64), "form")], f"{x.name}_formed")

    def flat(self, x: ir.Value) -> ir.Value:
        return self.reshape(x, -1)
