"""EfficientDet's training loss (arXiv:1911.09070, section 5.1; github.com/google/automl, efficientdet).

Anchors that overlap a box by half are its positives, and so is each box's best anchor; all others are background.
Focal loss (arXiv:1708.02002) on every class of every anchor, Huber loss on the positives' box deltas, both over the
number of positives in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss

from edgeseg.boxes import Boxes, anchor_boxes, decode, encode, iou
from edgeseg.spec import Anchors

ALPHA, GAMMA = 0.25, 1.5
DELTA, BOX_WEIGHT = 0.1, 50.0
MATCH = 0.5  # IoU


@dataclass(frozen=True)
class Target:
    """What the A anchors of one image should say: ``classes`` int64 A (-1: background), ``deltas`` float32 A×4."""

    classes: Tensor
    deltas: Tensor


class Matcher:
    """Which anchor of a network input of ``size`` answers for which box."""

    def __init__(self, anchors: Anchors, size: tuple[int, int]) -> None:
        self._anchors = anchor_boxes(anchors, size)
        self._corners = decode(np.zeros_like(self._anchors), self._anchors)

    def match(self, boxes: Boxes, classes: NDArray[np.int32]) -> Target:
        """``boxes`` N×4 in the input's pixels with ``classes`` N; crowds are the caller's to leave out."""
        solid = (boxes[:, 2:] > boxes[:, :2]).all(1)
        boxes, classes = boxes[solid], classes[solid]
        wanted = np.full(len(self._anchors), -1, np.int64)
        deltas = np.zeros((len(self._anchors), 4), np.float32)
        if len(boxes):
            overlaps = iou(boxes, self._corners)
            owner = overlaps.argmax(0)
            positive = overlaps.max(0) >= MATCH
            best = overlaps.argmax(1)
            owner[best], positive[best] = np.arange(len(boxes)), True
            wanted[positive] = classes[owner[positive]]
            deltas[positive] = encode(boxes[owner[positive]], self._anchors[positive])
        return Target(torch.from_numpy(wanted), torch.from_numpy(deltas))


def detection_loss(class_logits: Tensor, box_deltas: Tensor, targets: Sequence[Target]) -> Tensor:
    """The loss of a batch: ``class_logits`` N×A×C and ``box_deltas`` N×A×4, one target an image."""
    classes, deltas = torch.stack([t.classes for t in targets]), torch.stack([t.deltas for t in targets])
    positive = classes >= 0
    count = positive.sum() + 1.0  # never 0
    wanted = torch.zeros_like(class_logits)
    wanted[positive] = torch.nn.functional.one_hot(classes[positive], class_logits.shape[2]).to(wanted)
    boxes = huber_loss(box_deltas[positive], deltas[positive], reduction="sum", delta=DELTA) / 4
    return (focal_loss(class_logits, wanted) + BOX_WEIGHT * boxes) / count


def focal_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Sum over all elements; ``wanted`` holds zeros and ones."""
    entropy = binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    missed = (wanted - torch.sigmoid(logits)).abs()  # 1 - p of the truth
    weight = wanted * ALPHA + (1 - wanted) * (1 - ALPHA)
    return (weight * missed**GAMMA * entropy).sum()
