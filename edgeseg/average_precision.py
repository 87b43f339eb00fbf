"""COCO's average precision, by its own evaluator (pycocotools)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.boxes import Detections
from edgeseg.errors import MissingExtra


@dataclass(frozen=True)
class Truth:
    """What is on a frame: ``boxes`` float32 N×4 (x0 y0 x1 y1), ``classes`` int32 N, ``crowd`` bool N."""

    boxes: NDArray[np.float32]
    classes: NDArray[np.int32]
    crowd: NDArray[np.bool_]


def average_precision(
    truths: Sequence[Truth], found: Sequence[Detections], classes: int
) -> tuple[float, NDArray[np.float64]]:
    """AP@[.5:.95] of ``found`` (one a frame, as ``truths``) and that of each of ``classes``, in points (0 to 100);
    NaN for a class that the truth does not hold.

    Raises:
        MissingExtra: pycocotools is not installed.
    """
    evaluation = _evaluated(truths, found, classes)
    return _mean(truths, classes) if evaluation is None else _accumulated(evaluation)


def left_out(truths: Sequence[Truth], found: Sequence[Detections], classes: int, groups: int) -> list[float]:
    """AP@[.5:.95] without the frames 0, ``groups``, 2 · ``groups`` …, without 1, ``groups`` + 1 …, and so on.

    Raises:
        MissingExtra: pycocotools is not installed.
    """
    count, evaluation = len(truths), _evaluated(truths, found, classes)
    every = range(min(groups, count))
    if evaluation is None:
        return [_mean([t for i, t in enumerate(truths) if i % groups != g], classes)[0] for g in every]
    matched, scores = list(evaluation.evalImgs), []  # by class, then by frame
    for group in every:
        evaluation.evalImgs = [None if i % count % groups == group else each for i, each in enumerate(matched)]
        scores.append(_accumulated(evaluation)[0])
    return scores


def _mean(truths: Sequence[Truth], classes: int) -> tuple[float, NDArray[np.float64]]:
    """Of frames on which nothing is, or was found."""
    held = np.isin(np.arange(classes), [k for t in truths for k in t.classes[~t.crowd]])
    return 0.0 if held.any() else float("nan"), np.where(held, 0.0, np.nan)


def _accumulated(evaluation: Any) -> tuple[float, NDArray[np.float64]]:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 0]  # IoU × recall × class
    each: NDArray[np.float64] = np.where((precision < 0).any((0, 1)), np.nan, 100 * precision.mean((0, 1)))
    return (float(np.nanmean(each)) if (each == each).any() else float("nan")), each


def _evaluated(truths: Sequence[Truth], found: Sequence[Detections], classes: int) -> Any | None:
    """Which objects were found; None where there are none, which pycocotools does not take."""
    if not any((~truth.crowd).any() for truth in truths) or not any(d.count for d in found):
        return None
    reference = _reference(truths, classes)
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(_rows(found)), "bbox")
        parameters = evaluation.params  # of what it takes, areas of all sizes and the most detections of a frame
        parameters.areaRng, parameters.areaRngLbl = parameters.areaRng[:1], parameters.areaRngLbl[:1]
        parameters.maxDets = parameters.maxDets[-1:]
        evaluation.evaluate()
    return evaluation


def _reference(truths: Sequence[Truth], classes: int) -> Any:
    try:
        from pycocotools.coco import COCO
    except ImportError:
        raise MissingExtra("average precision", "pycocotools", "bench") from None
    annotations = [
        {"image_id": i, "bbox": box, "category_id": int(k), "iscrowd": int(c), "area": box[2] * box[3]}
        for i, truth in enumerate(truths)
        for box, k, c in zip(_corner_and_size(truth.boxes).tolist(), truth.classes, truth.crowd, strict=True)
    ]
    reference = COCO()
    reference.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(len(truths))],
        "categories": [{"id": i} for i in range(classes)],
        "annotations": [{"id": i + 1, **a} for i, a in enumerate(annotations)],  # 0 would mean no match
    }
    return reference


def _rows(found: Sequence[Detections]) -> NDArray[np.float64]:
    """Image, x, y, width, height, score, class of each object."""
    rows = [
        np.column_stack([np.full(d.count, i), _corner_and_size(d.boxes[: d.count]), d.scores[: d.count], kinds])
        for i, d in enumerate(found)
        for kinds in [d.classes[: d.count]]
    ]
    return np.concatenate(rows).astype(np.float64)


def _corner_and_size(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = boxes.astype(np.float64)
    return np.concatenate([wide[:, :2], wide[:, 2:] - wide[:, :2]], 1)
