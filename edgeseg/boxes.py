"""From a detector's raw outputs to boxes, in NumPy alone: anchors, decoding, non-maximum suppression. It is what the
runtime does for engines that end at the raw outputs, and what suppression in a graph is proved against, so that every
target gives one result.

Boxes are float32 N×4, x0 y0 x1 y1 in pixels, x1 and y1 one past the last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.spec import Anchors, Detection, Preprocess

FARTHEST = 10.0  # keeps e**t finite where a network says nonsense
BLOCK = 4096  # boxes that suppression looks at in one go: where the first give all that is asked for, no more are

SAME, CLOSE, NEAR = 0.75, 0.5, 0.1  # overlap, or pixels of each corner, and score by which two objects are one

Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class Detections:
    """The objects of one frame, best first: ``boxes`` float32 K×4 in frame pixels, ``scores`` float32 K (0 to 1),
    ``classes`` int32 K. Only the first ``count`` are objects; the others are zeros."""

    boxes: Boxes
    scores: NDArray[np.float32]
    classes: NDArray[np.int32]
    count: int


class Decoder:
    """What ``detection`` makes of the raw outputs of a network with ``preprocess`` for frames of (height, width)
    ``frame``. Safe to call from several threads."""

    def __init__(self, detection: Detection, preprocess: Preprocess, frame: tuple[int, int]) -> None:
        self._how, self._frame = detection, frame
        self._anchors = anchor_boxes(detection.anchors, preprocess.size)
        self._scale = frame_scale(preprocess, frame)

    def __call__(self, class_logits: NDArray[np.float32], box_deltas: NDArray[np.float32]) -> Detections:
        """``class_logits`` A×C and ``box_deltas`` A×4 of one frame → its objects."""
        how = self._how
        which, classes = candidates(class_logits, how.score_threshold)
        logits = class_logits[which, classes]  # these rank: the sigmoid rounds some of them together
        boxes = decode(box_deltas[which], self._anchors[which])
        kept = suppress(boxes, logits, classes, how.iou_threshold, how.max_detections)
        height, width = self._frame
        inside = np.clip(boxes[kept] * self._scale, 0, np.array([width, height, width, height], np.float32))
        found = Detections(
            np.zeros((how.max_detections, 4), np.float32), np.zeros(how.max_detections, np.float32),
            np.zeros(how.max_detections, np.int32), len(kept),
        )  # fmt: skip
        for whole, part in (
            (found.boxes, inside),
            (found.scores, sigmoid(logits[kept])),
            (found.classes, classes[kept]),
        ):
            whole[: len(kept)] = part
        return found


def frame_scale(preprocess: Preprocess, frame: tuple[int, int]) -> NDArray[np.float32]:
    """Pixels of a ``frame`` of (height, width) in a pixel of the network's input: float32 4, for x0 y0 x1 y1."""
    height, width = (f / n for f, n in zip(frame, preprocess.fitted(frame), strict=True))
    return np.array([width, height, width, height], np.float32)


def map_sizes(levels: tuple[int, int], size: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) of the maps of ``levels``: each level halves the one before it, rounded up."""
    height, width = size
    sizes = []
    for level in range(1, levels[1] + 1):
        height, width = -(-height // 2), -(-width // 2)
        if level >= levels[0]:
            sizes.append((height, width))
    return sizes


def anchor_boxes(anchors: Anchors, size: tuple[int, int]) -> NDArray[np.float32]:
    """The anchors of a network input of ``size`` (height, width): float32 A×4, centre y, centre x, height, width in
    its pixels. Level by level, finest first, position by position in rows, each position's scales, their aspects."""
    return np.concatenate([_level(anchors, size, grid) for grid in map_sizes(anchors.levels, size)])


def _level(anchors: Anchors, size: tuple[int, int], grid: tuple[int, int]) -> NDArray[np.float32]:
    strides = np.divide(size, grid)
    centres = [(np.arange(n) + 0.5) * stride for n, stride in zip(grid, strides, strict=True)]
    octaves = anchors.scale * 2.0 ** (np.arange(anchors.scales) / anchors.scales)
    factors = np.array([(height, width) for width, height in anchors.aspects])
    shapes = (octaves[:, None, None] * factors * strides).reshape(-1, 2)
    found = np.empty((*grid, len(shapes), 4), np.float32)
    found[..., 0], found[..., 1] = centres[0][:, None, None], centres[1][:, None]
    found[..., 2:] = shapes
    return found.reshape(-1, 4)


def decode(deltas: NDArray[np.float32], anchors: NDArray[np.float32]) -> Boxes:
    """``deltas`` N×4 (ty tx th tw) from ``anchors`` N×4 (centre y, centre x, height, width) to boxes: centres move by
    shares of the anchor, sizes by factors e**t (arXiv:1506.01497, section 3.1.2)."""
    centre = deltas[:, :2] * anchors[:, 2:] + anchors[:, :2]
    half = np.exp(np.clip(deltas[:, 2:], -FARTHEST, FARTHEST)) * anchors[:, 2:] / 2
    return np.concatenate([(centre - half)[:, ::-1], (centre + half)[:, ::-1]], 1)


def encode(boxes: Boxes, anchors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The deltas N×4 that ``decode`` turns into ``boxes`` N×4."""
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    moved = (centre[:, ::-1] - anchors[:, :2]) / anchors[:, 2:]
    return np.concatenate([moved, np.log(size[:, ::-1] / anchors[:, 2:])], 1).astype(np.float32)


def iou(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Intersection over union of each box of ``a`` with each of ``b``: float32 N×M; 0 where both are empty."""
    low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    common = np.clip(high - low, 0, None).prod(2)
    union = _area(a)[:, None] + _area(b) - common
    shares: NDArray[np.float32] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return shares


def _area(boxes: Boxes) -> NDArray[np.float32]:
    areas: NDArray[np.float32] = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(1)
    return areas


def clear_of_cut(found: Detections, threshold: float) -> float:
    """The score over which an object of ``found`` is no matter of rounding: by ``NEAR`` over the ``threshold`` or, of
    as many objects as there can be, over the last one's."""
    return max(threshold, float(found.scores[-1])) + NEAR


def alike(a: Detections, b: Detections, over: float = -math.inf) -> float:
    """The share of the objects of each with a score above ``over``, weighted by it, that the other has: an object of
    the same class that overlaps by an IoU of ``SAME``, or whose corners are no more than ``CLOSE`` pixels away (a box
    at the frame's edge may be empty), and whose score, high or low, differs by no more than ``NEAR``. The lesser of
    both ways, 0 to 1."""
    one, other = slice(a.count), slice(b.count)
    same: NDArray[np.bool_] = iou(a.boxes[one], b.boxes[other]) >= SAME
    same |= (np.abs(a.boxes[one][:, None] - b.boxes[other]) <= CLOSE).all(2)
    same &= a.classes[one][:, None] == b.classes[other]
    same &= np.abs(a.scores[one][:, None] - b.scores[other]) <= NEAR
    return min(_share(a.scores[one], same.any(1), over), _share(b.scores[other], same.any(0), over))


def _share(scores: NDArray[np.float32], met: Any, over: float) -> float:
    scores, met = scores[scores > over], met[scores > over]
    return float(scores[met].sum(dtype=np.float64) / scores.sum(dtype=np.float64)) if scores.size else 1.0


def suppress(
    boxes: Boxes, scores: NDArray[np.float32], classes: NDArray[np.int32], threshold: float, most: int
) -> NDArray[np.intp]:
    """Indices of the boxes that stay, best first, at most ``most``: none overlaps a better one of its class by an
    IoU over ``threshold``. Of equal scores the lower class is the better one, within a class the first box."""
    order = np.lexsort((classes, -scores))
    x0, y0, x1, y1 = np.ascontiguousarray(boxes[order].T)
    areas, kinds = np.clip(x1 - x0, 0, None) * np.clip(y1 - y0, 0, None), classes[order]
    stays = np.ones(len(order), bool)
    kept: list[int] = []

    def judge(i: int, others: slice) -> None:
        """Box ``i`` stays: those of the ``others`` that overlap it go."""
        width = np.minimum(x1[others], x1[i]) - np.maximum(x0[others], x0[i])
        height = np.minimum(y1[others], y1[i]) - np.maximum(y0[others], y0[i])
        common = np.clip(width, 0, None) * np.clip(height, 0, None)
        apart = common <= threshold * (areas[others] + areas[i] - common)
        stays[others] &= apart | (kinds[others] != kinds[i])

    for start in range(0, len(order), BLOCK):
        end = min(start + BLOCK, len(order))
        for i in kept:
            judge(i, slice(start, end))
        for i in range(start, end):
            if not stays[i]:
                continue
            kept.append(i)
            if len(kept) == most:
                return order[kept]
            judge(i, slice(i + 1, end))
    return order[kept]


def candidates(logits: NDArray[np.float32], threshold: float) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Anchors and classes of ``logits`` A×C whose score is over ``threshold``, anchor by anchor. An anchor may be a
    candidate for several classes."""
    anchors, classes = np.divmod(np.flatnonzero(logits.ravel() > logit(threshold)), logits.shape[1])
    return anchors, classes.astype(np.int32)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores of ``logits``."""
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def logit(score: float) -> float:
    """The logit whose score is ``score``."""
    if not 0 < score < 1:
        return math.copysign(math.inf, score - 0.5)
    return math.log(score / (1 - score))
