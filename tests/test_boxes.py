"""Anchors, decoding and suppression against plain loops and the published detector's own anchors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeseg.boxes import BLOCK, Decoder, anchor_boxes, candidates, decode, encode, iou, map_sizes, suppress
from edgeseg.models import efficientdet
from edgeseg.spec import Anchors, Detection, Preprocess

Boxes = NDArray[np.float32]


def random_boxes(rng: np.random.Generator, count: int) -> Boxes:
    """Boxes on a coarse grid, so that overlaps, touches, equals and empty ones are common."""
    low = rng.integers(0, 12, (count, 2))
    return np.concatenate([low, low + rng.integers(0, 8, (count, 2))], 1).astype(np.float32)


def overlap(a: Boxes, b: Boxes) -> float:
    """IoU of two boxes, one number at a time."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return float(width * height / union) if union else 0.0


@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(0, 12))
def test_iou_is_that_of_each_pair(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = random_boxes(rng, n), random_boxes(rng, m)
    found = iou(a, b)
    assert found.shape == (n, m) and found.dtype == np.float32
    assert np.allclose(found, np.array([[overlap(p, q) for q in b] for p in a]).reshape(n, m), atol=1e-6)


def suppressed_by_loops(
    boxes: Boxes, scores: Boxes, classes: NDArray[np.int32], threshold: float, most: int
) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], classes[i], i)):
        if len(kept) < most and all(
            classes[i] != classes[k] or overlap(boxes[i], boxes[k]) <= threshold + 1e-7 for k in kept
        ):
            kept.append(i)
    return kept


@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(1, 20), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_suppression_is_the_greedy_one(seed: int, count: int, most: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    boxes, classes = random_boxes(rng, count), rng.integers(0, 3, count).astype(np.int32)
    scores = (rng.integers(0, 20, count) / 20).astype(np.float32)  # ties are common
    kept = suppress(boxes, scores, classes, threshold, most)
    assert kept.tolist() == suppressed_by_loops(boxes, scores, classes, threshold, most)


@given(st.integers(0, 2**32 - 1))
def test_decoding_undoes_encoding(seed: int) -> None:
    rng = np.random.default_rng(seed)
    anchors = rng.uniform(4, 200, (20, 4)).astype(np.float32)
    low = rng.uniform(-50, 300, (20, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 200, (20, 2))], 1).astype(np.float32)
    assert np.allclose(decode(encode(boxes, anchors), anchors), boxes, atol=1e-2)


def test_anchors_are_the_published_detectors(data_folder) -> None:  # type: ignore[no-untyped-def]
    golden = np.load(data_folder / "golden/efficientdet_lite0_float_dequant.npz")["anchors"] * 320
    (lite,) = (v for v in efficientdet.SPEC.variants if v.name == "lite0")
    assert lite.anchors is not None
    assert np.abs(anchor_boxes(lite.anchors, (320, 320)) - golden).max() < 1e-3


@pytest.mark.parametrize("size", [(128, 256), (320, 320), (96, 352)])
def test_there_is_an_anchor_for_each_place_of_each_map(size: tuple[int, int]) -> None:
    found = anchor_boxes(Anchors(), size)
    grids = map_sizes((3, 7), size)
    assert grids[0] == (size[0] // 8, size[1] // 8) and len(grids) == 5
    assert found.shape == (9 * sum(h * w for h, w in grids), 4) and found.dtype == np.float32
    assert (found[:, :2] > 0).all() and (found[:, :2] < size).all()
    first = 4 * 8 * np.array([1, 0.7, 1.4])
    assert np.allclose(found[:3], np.stack([np.full(3, 4), np.full(3, 4), first, first[[0, 2, 1]]], 1))


def test_every_class_over_the_threshold_is_a_candidate() -> None:
    logits = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32)
    assert len(candidates(logits, 0.0)[0]) == 8000 and len(candidates(logits, 1.0)[0]) == 0
    anchors, classes = candidates(logits, 0.5)
    assert set(zip(anchors.tolist(), classes.tolist(), strict=True)) == {(a, c) for a, c in np.argwhere(logits > 0)}


def test_suppression_goes_on_where_the_first_block_gives_too_few() -> None:
    count, most = 2 * BLOCK + 300, 40
    places = np.arange(count) // 1000  # crowds of boxes, of which one stays each
    boxes = (places[:, None] * 100 + np.array([0, 0, 50, 50])).astype(np.float32)
    scores, classes = np.linspace(1, 0.1, count, dtype=np.float32), np.zeros(count, np.int32)
    kept = suppress(boxes, scores, classes, 0.5, most)
    assert kept.tolist() == list(range(0, count, 1000)) and len(kept) > BLOCK // 1000 + 1


def lone_object(preprocess: Preprocess, box: Boxes, kind: int) -> tuple[Boxes, Boxes]:
    """Raw outputs that see ``box`` of the network's input, class ``kind``, on its nearest anchor."""
    anchors = anchor_boxes(Anchors(), preprocess.size)
    corners = decode(np.zeros_like(anchors), anchors)
    best = int(iou(box[None], corners)[0].argmax())
    logits, deltas = np.full((len(anchors), 5), -9, np.float32), np.zeros((len(anchors), 4), np.float32)
    logits[best, kind], deltas[best] = 2.0, encode(box[None], anchors[best, None])[0]
    return logits, deltas


@pytest.mark.parametrize("frame", [(128, 128), (256, 512), (100, 75), (480, 640)])
def test_boxes_come_in_frame_pixels(frame: tuple[int, int]) -> None:
    preprocess = Preprocess((128, 128), letterbox=True)
    height, width = preprocess.fitted(frame)
    box = np.array([5, 10, width + 20, height / 2], np.float32)  # reaches out of the frame
    logits, deltas = lone_object(preprocess, box, 3)
    found = Decoder(Detection(Anchors(), max_detections=7), preprocess, frame)(logits, deltas)
    assert (found.count, found.classes[0], found.boxes.shape) == (1, 3, (7, 4)) and found.classes.dtype == np.int32
    assert found.scores[0] == pytest.approx(1 / (1 + np.exp(-2)))
    want = [5 * frame[1] / width, 10 * frame[0] / height, frame[1], height / 2 * frame[0] / height]
    assert np.allclose(found.boxes[0], want, atol=1e-2) and not found.boxes[1:].any()


def test_a_frame_without_objects_has_none() -> None:
    preprocess = Preprocess((64, 64), letterbox=True)
    logits, deltas = lone_object(preprocess, np.array([5, 5, 20, 20], np.float32), 0)
    found = Decoder(Detection(Anchors()), preprocess, (64, 64))(np.minimum(logits, -9), deltas)
    assert found.count == 0 and not found.scores.any()
