"""EfficientDet's loss: which anchors learn what, against plain loops, and that it teaches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import BatchNorm2d

from edgeseg.boxes import Decoder, anchor_boxes, decode, iou
from edgeseg.models import efficientdet
from edgeseg.models._detection_loss import ALPHA, GAMMA, MATCH, Matcher, detection_loss, focal_loss
from edgeseg.spec import Anchors, Detection, Preprocess

SIZE = (96, 128)


def test_anchors_learn_the_box_they_overlap_most() -> None:
    boxes = np.array([[10, 10, 40, 40], [12, 8, 44, 40], [70, 30, 73, 33], [5, 5, 5, 9]], np.float32)
    classes = np.array([3, 1, 2, 0], np.int32)
    target = Matcher(Anchors(), SIZE).match(boxes, classes)
    anchors = anchor_boxes(Anchors(), SIZE)
    overlaps = iou(boxes[:3], decode(np.zeros_like(anchors), anchors))
    forced = {int(overlaps[i].argmax()): i for i in range(3)}
    assert overlaps[2].max() < MATCH and 2 in forced.values()  # so small that it needs its best anchor given
    for a, wanted in enumerate(target.classes.tolist()):
        owner = forced.get(a, int(overlaps[:, a].argmax()))
        learns = a in forced or overlaps[:, a].max() >= MATCH
        assert wanted == (classes[owner] if learns else -1)
        if learns:
            assert np.allclose(decode(target.deltas[a][None].numpy(), anchors[a, None])[0], boxes[owner], atol=1e-3)


def test_an_empty_frame_is_background() -> None:
    target = Matcher(Anchors(), SIZE).match(np.zeros((0, 4), np.float32), np.zeros(0, np.int32))
    assert (target.classes == -1).all()
    logits, deltas = torch.zeros(1, len(target.classes), 2, requires_grad=True), torch.zeros(1, len(target.classes), 4)
    loss = detection_loss(logits, deltas, [target])
    assert loss.item() == pytest.approx(0.75 * 0.5**GAMMA * np.log(2) * logits.numel(), rel=1e-4)


def test_focal_loss_is_the_papers() -> None:
    logits, wanted = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 0.0, 0.0])
    p = torch.sigmoid(logits)
    truth = torch.stack([p[0], 1 - p[1], 1 - p[2]])
    alpha = torch.tensor([ALPHA, 1 - ALPHA, 1 - ALPHA])
    assert focal_loss(logits, wanted).item() == pytest.approx(
        (-alpha * (1 - truth) ** GAMMA * truth.log()).sum().item()
    )


def painted(seed: int) -> tuple[Tensor, NDArray[np.float32], NDArray[np.int32]]:
    """A noisy input 3×H×W with a bright and a dark rectangle: classes 0 and 1."""
    rng = np.random.default_rng(seed)
    boxes = np.array([[8, 16, 56, 60], [70, 24, 122, 88]], np.float32) + rng.integers(-6, 6, (2, 1))
    image = rng.normal(0, 0.1, (3, *SIZE)).astype(np.float32)
    for (x0, y0, x1, y1), level in zip(boxes.astype(int).tolist(), (1.0, -1.0), strict=True):
        image[:, y0:y1, x0:x1] += level
    return torch.from_numpy(image), boxes.astype(np.float32), np.array([0, 1], np.int32)


def test_two_images_are_soon_learnt() -> None:
    torch.manual_seed(0)
    images = [painted(seed) for seed in range(2)]
    scaling = efficientdet.Scaling("lite0", 64, cells=1, repeats=1)
    network = efficientdet.EfficientDet(2, scaling, Anchors(), width=0.25).train()
    for module in network.modules():
        if isinstance(module, BatchNorm2d):
            module.momentum = 0.3  # few steps
    matcher = Matcher(Anchors(), SIZE)
    targets = [matcher.match(boxes, classes) for _, boxes, classes in images]
    x = torch.stack([image for image, _, _ in images])
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        class_logits, box_deltas = network(x)
        loss = detection_loss(class_logits, box_deltas, targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0], losses[::10]
    decoder = Decoder(Detection(Anchors()), Preprocess(SIZE), SIZE)
    with torch.no_grad():
        logits, deltas = (o.numpy() for o in network.eval()(x))
    for (_, boxes, classes), found in zip(images, map(decoder, logits, deltas), strict=True):
        same = classes[:, None] == found.classes
        assert (same & (iou(boxes, found.boxes) > 0.6) & (found.scores > 0.2)).any(1).all(), found.scores[:4]
