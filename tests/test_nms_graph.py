"""Suppression in NumPy gives what ONNX's NonMaxSuppression gives in the engines that have it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeseg.boxes import Decoder, anchor_boxes
from edgeseg.spec import Anchors, Detection, Preprocess
from tests.nms_graph import Raw, nms_graph, objects, onnxruntime_nms, openvino_nms

SIZE, CLASSES = (64, 96), 3


def raw_outputs(seed: int) -> Raw:
    """Clusters of confident anchors with boxes that overlap."""
    rng = np.random.default_rng(seed)
    count = len(anchor_boxes(Anchors(), SIZE))
    logits = rng.normal(-6, 2.5, (count, CLASSES)).astype(np.float32)
    return logits, rng.normal(0, 0.3, (count, 4)).astype(np.float32)


@pytest.mark.parametrize("engine", [onnxruntime_nms, openvino_nms])
def test_numpy_suppression_is_onnxs(engine: Callable[[bytes, int], Callable[[Raw], list[np.ndarray]]]) -> None:
    anchors, most = anchor_boxes(Anchors(), SIZE), 1000
    run = engine(nms_graph(anchors, CLASSES, most=most), 1)
    detection = Detection(Anchors(), max_detections=most)
    decoder = Decoder(detection, Preprocess(SIZE, letterbox=True), SIZE)
    for seed in range(6):
        raw = raw_outputs(seed)
        wanted, got = objects(*run(raw)), decoder(*raw)
        assert got.count == len(wanted) > 50
        assert np.allclose(got.scores[: got.count], [o[0] for o in wanted], atol=1e-6)  # best first, both
        height, width = SIZE
        for score, kind, *corners in wanted:
            box = np.clip(corners, 0, [width, height, width, height])
            same = np.isclose(got.boxes, box, atol=1e-3).all(1) & np.isclose(got.scores, score, atol=1e-6)
            assert (same & (got.classes == kind))[: got.count].any()
