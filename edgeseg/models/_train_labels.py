"""What a semantic segmentation network learns: cross-entropy with the class weights of the ENet paper
(arXiv:1606.02147, section 5.1), auxiliary heads at a lesser weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edgeseg.datasets import Dataset, Sample
from edgeseg.errors import InputError
from edgeseg.images import resize_frame, resize_labels
from edgeseg.metrics import confusion, miou
from edgeseg.models._reference import Reference
from edgeseg.progress import Progress, Silent
from edgeseg.spec import Preprocess

# w = 1 / ln(floor + share of pixels). The paper's 1.02 weighs a rare class up to 14 times the road; 1.1,
# 4 times.
WEIGHT_FLOOR = 1.1
AUXILIARY = 0.4  # weight of an auxiliary head's loss (PSPNet, arXiv:1612.01105, section 3.3)
SAMPLED = 64  # images that the shares of the classes are counted on


class LabelLesson:
    """The class of each pixel; ``stride`` is the network's. Raises InputError where images have no labels."""

    metric = "IoU"

    def __init__(self, data: Dataset, preprocess: Preprocess, stride: int) -> None:
        self.data, self.preprocess, self._stride = data, preprocess, stride
        self._weights = class_weights(data)
        self._ignore = -100 if data.ignore_index is None else data.ignore_index

    def example(self, sample: Sample, mirror: bool, coarse: bool) -> tuple[Tensor, Tensor]:
        """Frame 3×H×W in 8-bit units and labels int64 H×W."""
        frame, labels = fit(sample, self.preprocess)
        if mirror:
            frame, labels = frame[:, ::-1], labels[:, ::-1]
        x = torch.from_numpy(frame.transpose(2, 0, 1).copy())
        y = torch.from_numpy(labels.astype(np.int64))
        return halve(x, y, self._stride) if coarse else (x, y)

    def loss(self, outputs: Tensor | tuple[Tensor, ...], wanted: Sequence[Tensor]) -> Tensor:
        """Of logits N×C×h×w, brought to the size of the labels N×H×W, and of auxiliary logits behind them."""
        main, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        return self._of(main, wanted[0]) + AUXILIARY * sum(self._of(logits, wanted[0]) for logits in auxiliary)

    def score(self, network: nn.Module, data: Dataset, progress: Progress) -> tuple[float, NDArray[np.float64]]:
        return mean_iou(network, data, self.preprocess, progress)

    def _of(self, logits: Tensor, labels: Tensor) -> Tensor:
        size = labels.shape[1:]
        if logits.shape[2:] != size:
            logits = functional.interpolate(logits, size, mode="bilinear", align_corners=False)
        return functional.cross_entropy(logits, labels, self._weights, ignore_index=self._ignore)


def fit(sample: Sample, preprocess: Preprocess) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Frame and labels at the network's input size, the frame in its channel order.

    Raises:
        InputError: the sample has no labels.
    """
    if sample.labels is None:
        raise InputError(f"{sample.name} has no labels to learn from: give --data with labels")
    frame = resize_frame(sample.frame, preprocess.size)
    labels = resize_labels(sample.labels, preprocess.size)
    return (frame[..., ::-1] if preprocess.order == "BGR" else frame), labels


def class_weights(data: Dataset) -> Tensor:
    """Weight of each class in the loss, from the shares of pixels over some images spread over ``data``."""
    counts = np.zeros(256, np.int64)
    for index in np.linspace(0, len(data) - 1, min(SAMPLED, len(data))).astype(int).tolist():
        labels = data[index].labels
        counts += 0 if labels is None else np.bincount(labels.ravel(), minlength=256)
    share = counts[: len(data.classes)] / max(int(counts[: len(data.classes)].sum()), 1)
    return torch.from_numpy(1.0 / np.log(WEIGHT_FLOOR + share)).float()


def halve(frame: Tensor, labels: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Frame 3×H×W (averaged) and labels H×W (nearest) at about half their size, a multiple of ``stride``."""
    height, width = (max(stride, n // 2 // stride * stride) for n in labels.shape)
    small = functional.interpolate(frame[None].float(), (height, width), mode="area")
    nearest = functional.interpolate(labels[None, None].float(), (height, width), mode="nearest-exact")
    return small[0], nearest[0, 0].long()


def mean_iou(
    network: nn.Module, data: Dataset, preprocess: Preprocess, progress: Progress | None = None
) -> tuple[float, NDArray[np.float64]]:
    """Mean intersection over union and that of each class over ``data``, in points (0 to 100)."""
    reference, n = Reference(network, preprocess), len(data.classes)
    counts = np.zeros((n, n), np.int64)
    with (progress or Silent()).task("validate", len(data)) as done:
        for index in range(len(data)):
            sample = data[index]
            if sample.labels is not None:
                _, answer = reference.run(sample.frame)
                counts += confusion(sample.labels, answer, n, data.ignore_index)
            done()
    return miou(counts, data.ignore_index)
