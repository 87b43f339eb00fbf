"""The task's own metric of a graph or an engine on labelled images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeseg.average_precision import Truth, average_precision
from edgeseg.boxes import Decoder, Detections
from edgeseg.datasets import Dataset, Sample
from edgeseg.images import letterbox_frame, resize_frame, resize_labels
from edgeseg.metrics import confusion, miou
from edgeseg.spec import Detection, Preprocess

Frame = NDArray[np.uint8]
Answers = dict[str, NDArray[Any]]
Answer = Callable[[Frame], Answers]  # what a graph or an engine gives for a frame H×W×3, with the batch axis


class Score(Protocol):
    """Counts frames."""

    def add(self, sample: Sample, answer: Answer) -> None:
        """One image, which ``answer`` is asked about as a frame, unless nothing on it is labelled."""

    def points(self) -> float:
        """mIoU or AP, 0 to 100; NaN where no frame has labels."""


def points(answer: Answer, dataset: Dataset, score: Score, done: Callable[[], None] = lambda: None) -> float:
    """What ``answer`` reaches on all of ``dataset``; ``done`` is called after each image."""
    for i in range(len(dataset)):
        score.add(dataset[i], answer)
        done()
    return score.points()


class LabelScore:
    """Mean intersection over union of labels at ``frame``'s size (height, width)."""

    def __init__(self, frame: tuple[int, int], classes: int, ignore_index: int | None) -> None:
        self._frame, self._classes, self._ignore_index = frame, classes, ignore_index
        self._counts = np.zeros((classes, classes), np.int64)

    def add(self, sample: Sample, answer: Answer) -> None:
        if sample.labels is not None:
            labels = labels_of(answer(resize_frame(sample.frame, self._frame)))
            truth = resize_labels(sample.labels, self._frame)
            self._counts += confusion(truth, labels, self._classes, self._ignore_index)

    def points(self) -> float:
        return miou(self._counts)[0]


class BoxScore:
    """COCO's average precision."""

    def __init__(self, frame: tuple[int, int], classes: int, how: Detection, preprocess: Preprocess) -> None:
        self._frame, self._classes, self._mean = frame, classes, preprocess.mean
        self._decode = Decoder(how, preprocess, frame)
        self._truths: list[Truth] = []
        self._found: list[Detections] = []

    def add(self, sample: Sample, answer: Answer) -> None:
        frame, scale = letterbox_frame(sample.frame, self._frame, self._mean)
        truth = truth_of(sample, scale)
        if truth is not None:
            outputs = answer(frame)
            self._truths.append(truth)
            self._found.append(self._decode(outputs["class_logits"][0], outputs["box_deltas"][0]))

    def points(self) -> float:
        return average_precision(self._truths, self._found, self._classes)[0] if self._truths else float("nan")


def labels_of(outputs: Answers) -> Frame:
    """The class ids uint8 H×W that one frame's ``outputs`` give or, of logits, choose."""
    found: Frame = outputs["labels"][0] if "labels" in outputs else outputs["logits"][0].argmax(0).astype(np.uint8)
    return found


def truth_of(sample: Sample, scale: NDArray[np.float32]) -> Truth | None:
    """What is on ``sample`` in the coordinates of its letterboxed frame, ``scale`` as ``letterbox_frame`` gives it;
    None without labels."""
    if sample.boxes is None or sample.box_classes is None:
        return None
    crowd = np.zeros(len(sample.boxes), bool) if sample.crowd is None else sample.crowd
    return Truth(sample.boxes * scale, sample.box_classes, crowd)
