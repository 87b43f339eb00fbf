"""Boxes: COCO's average precision, agreement of objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.average_precision import Truth, average_precision, left_out
from edgeseg.benchmarks._judge import GROUPS, Frame, Shown, chance, losses, scored
from edgeseg.boxes import Detections, iou
from edgeseg.datasets import Dataset, Sample
from edgeseg.export._exact import Exact
from edgeseg.export._score import truth_of
from edgeseg.images import letterbox_frame
from edgeseg.manifest import Manifest
from edgeseg.metrics import sqnr_db
from edgeseg.models import Network
from edgeseg.models._reference import DetectionReference
from edgeseg.overlay import SURE, outlines
from edgeseg.runtimes._detect import Detector
from edgeseg.runtimes._runtime import Outputs

# The gate of each precision: least share of PyTorch's objects that the engine sees, most points of AP lost.
AGREEMENT = {"fp32": 0.995, "fp16": 0.97, "int8": 0.0}
DROP = {"fp32": 0.1, "fp16": 0.3, "int8": 2.0}
OVERLAP = 0.9  # IoU from which two boxes are one
NOISE_FRAMES = 4  # raw outputs are compared on the first few frames: they are large

Raw = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Answer:
    """Objects in frame pixels, and the raw outputs of some frames."""

    found: Detections
    raw: Raw | None = None


class Boxes:
    """Answers of all frames; average precision is of all of them at once."""

    def __init__(self, manifest: Manifest, dataset: Dataset, network: Network) -> None:
        self._manifest = manifest
        self._reference = DetectionReference(network.module, manifest.preprocess)
        self._detector = Detector(manifest)
        self._scored = scored(manifest, dataset)
        self._truths: list[Truth] = []
        self._found: dict[str, list[Detections]] = {}
        self._agreed: dict[str, NDArray[np.int64]] = {}
        self._noise: list[float] = []
        self._frames = 0

    def fit(self, sample: Sample) -> Frame:
        return self._fitted(sample)[0]

    def reference(self, frame: Frame) -> Answer:
        raw = self._reference.run(frame)
        found = self._detector.decode({"class_logits": raw[0][None], "box_deltas": raw[1][None]})
        return Answer(found, raw if self._frames < NOISE_FRAMES else None)

    def exact(self, exact: Exact, frame: Frame) -> Answer:
        return Answer(self._detector.decode(exact.run(frame[None])))

    def add(self, sample: Sample, frame: Frame, outputs: Outputs, reference: Answer, ideal: Answer | None) -> None:
        self._frames += 1
        got = self._detector.detect(outputs)
        found = {"reference": reference.found, "engine": got}
        self._agree("agreement", reference.found, got)
        if ideal is not None:
            found["ideal"] = ideal.found
            self._agree("quantization", reference.found, ideal.found)
            self._agree("engine_error", ideal.found, got)
        if reference.raw is not None and "class_logits" in outputs:
            raw = outputs["class_logits"][0], outputs["box_deltas"][0]
            self._noise.append(min(sqnr_db(r, g) for r, g in zip(reference.raw, raw, strict=True)))
        truth = self._truth(sample)
        if truth is not None and self._scored:
            self._truths.append(truth)
            for name, each in found.items():
                self._found.setdefault(name, []).append(each)

    def shown(self, sample: Sample, frame: Frame, outputs: Outputs, reference: Answer) -> Shown:
        truth, size = self._truth(sample), self._manifest.frame
        maps = [outlines(*_sure(d), size) for d in (reference.found, self._detector.detect(outputs))]
        drawn = None if truth is None else outlines(truth.boxes, truth.classes, size)
        return Shown(sample.name, frame, maps[0], maps[1], drawn)

    def figures(self) -> dict[str, Any]:
        precision, count = self._manifest.precision, len(self._manifest.classes)
        agreed = {name: _share(*counts.tolist()) for name, counts in self._agreed.items()}
        found: dict[str, Any] = {"metric": "map", "agreement": agreed["agreement"], "images": self._frames}
        if self._noise:
            found["sqnr_db"] = float(np.mean(self._noise))
        scores = {name: average_precision(self._truths, each, count) for name, each in self._found.items()}
        passed = agreed["agreement"] >= AGREEMENT[precision]
        if scores:
            found["reference"], found["engine"] = scores["reference"][0], scores["engine"][0]
            found["drop"] = found["reference"] - found["engine"]
            found.update(chance({name: self._left_out(name) for name in ("reference", "engine")}))
            pairs = zip(self._manifest.classes, scores["engine"][1].tolist(), strict=True)
            found["per_class"] = {c.name: v for c, v in pairs if not np.isnan(v)}
            passed = passed and not found["drop"] > DROP[precision]
        found.update(losses(agreed, {name: mean for name, (mean, _) in scores.items()}))
        return {**found, "passed": bool(passed)}

    def _left_out(self, name: str) -> list[float]:
        return left_out(self._truths, self._found[name], len(self._manifest.classes), GROUPS)

    def _fitted(self, sample: Sample) -> tuple[Frame, NDArray[np.float32]]:
        return letterbox_frame(sample.frame, self._manifest.frame, self._manifest.preprocess.mean)

    def _truth(self, sample: Sample) -> Truth | None:
        return truth_of(sample, self._fitted(sample)[1])

    def _agree(self, name: str, wanted: Detections, got: Detections) -> None:
        self._agreed[name] = self._agreed.get(name, np.zeros(3, np.int64)) + matches(wanted, got)


def matches(wanted: Detections, got: Detections) -> NDArray[np.int64]:
    """How many sure objects (score ``SURE`` and over) of ``wanted`` the boxes of ``got`` of any score hold: one of
    the same class that overlaps by ``OVERLAP``; of how many; and how many sure ones ``got`` has."""
    boxes, classes = _sure(wanted)
    same = classes[:, None] == got.classes[: got.count]
    seen = (same & (iou(boxes, got.boxes[: got.count]) >= OVERLAP)).any(1)
    return np.array([seen.sum(), len(boxes), len(_sure(got)[0])], np.int64)


def _share(seen: int, wanted: int, sure: int) -> float:
    """Where nothing was to be seen, an engine that sees nothing agrees."""
    return seen / wanted if wanted else float(not sure)


def _sure(found: Detections) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    sure = found.scores >= SURE
    return found.boxes[sure], found.classes[sure]
