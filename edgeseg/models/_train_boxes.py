"""What a detector learns: EfficientDet's loss (edgeseg.models._detection_loss) on letterboxed frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeseg.average_precision import Truth, average_precision
from edgeseg.boxes import Decoder
from edgeseg.datasets import Dataset, Sample
from edgeseg.errors import InputError
from edgeseg.images import letterbox_frame
from edgeseg.models._detection_loss import Matcher, Target, detection_loss
from edgeseg.models._reference import DetectionReference
from edgeseg.progress import Progress
from edgeseg.spec import Anchors, Detection, Preprocess


class BoxLesson:
    """What each anchor sees; ``stride`` is the network's. Raises InputError where images have no boxes."""

    metric = "AP"

    def __init__(self, data: Dataset, preprocess: Preprocess, stride: int, anchors: Anchors) -> None:
        self.data, self.preprocess, self._anchors = data, preprocess, anchors
        height, width = (max(stride, n // 2 // stride * stride) for n in preprocess.size)
        self._matchers = {size: Matcher(anchors, size) for size in (preprocess.size, (height, width))}
        self._half = height, width

    def example(self, sample: Sample, mirror: bool, coarse: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Frame 3×H×W in 8-bit units, classes int64 A and deltas float32 A×4 of its anchors."""
        boxes, classes = solid(sample)
        frame, size = sample.frame, self._half if coarse else self.preprocess.size
        if mirror:
            frame, boxes = frame[:, ::-1], boxes[:, [2, 1, 0, 3]]
            boxes[:, ::2] = frame.shape[1] - boxes[:, ::2]
        boxed, scale = letterbox_frame(frame, size, self.preprocess.mean)
        target = self._matchers[size].match(boxes * scale, classes)
        if self.preprocess.order == "BGR":
            boxed = boxed[..., ::-1]
        return torch.from_numpy(boxed.transpose(2, 0, 1).copy()), target.classes, target.deltas

    def loss(self, outputs: tuple[Tensor, Tensor], wanted: Sequence[Tensor]) -> Tensor:
        """Of class logits N×A×C and box deltas N×A×4."""
        return detection_loss(*outputs, [Target(*target) for target in zip(*wanted, strict=True)])

    def score(self, network: nn.Module, data: Dataset, progress: Progress) -> tuple[float, NDArray[np.float64]]:
        """COCO AP@[.5:.95] and that of each class over ``data``, in points (0 to 100)."""
        reference, how = DetectionReference(network, self.preprocess), Detection(self._anchors)
        truths, found = [], []
        with progress.task("validate", len(data)) as done:
            for index in range(len(data)):
                sample = data[index]
                boxes, classes = solid(sample)
                height, width = sample.frame.shape[:2]
                decoder = Decoder(how, self.preprocess, (height, width))
                truths.append(Truth(boxes, classes, np.zeros(len(boxes), bool)))
                found.append(decoder(*reference.run(sample.frame)))
                done()
        return average_precision(truths, found, len(data.classes))


def solid(sample: Sample) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The boxes N×4 and classes N of single objects, in arrays of their own.

    Raises:
        InputError: the sample has no boxes.
    """
    if sample.boxes is None or sample.box_classes is None:
        raise InputError(f"{sample.name} has no boxes to learn from: give --data with boxes")
    single = np.ones(len(sample.boxes), bool) if sample.crowd is None else ~sample.crowd
    return sample.boxes[single], sample.box_classes[single]
