"""Label maps: mean intersection over union, agreement of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.benchmarks._judge import GROUPS, Frame, Shown, chance, losses, scored
from edgeseg.datasets import Dataset, Sample
from edgeseg.export._exact import Exact
from edgeseg.export._score import labels_of
from edgeseg.images import resize_frame, resize_labels
from edgeseg.manifest import Manifest
from edgeseg.metrics import agreement, confusion, miou, sqnr_db
from edgeseg.models import Network
from edgeseg.models._reference import Reference
from edgeseg.runtimes._runtime import Outputs

# The gate of each precision: least agreement of labels with PyTorch, most points of mIoU lost.
AGREEMENT = {"fp32": 0.999, "fp16": 0.995, "int8": 0.0}
DROP = {"fp32": 0.1, "fp16": 0.3, "int8": 1.5}

Labels = NDArray[np.uint8]


class Semantic:
    """Running sums over the frames."""

    def __init__(self, manifest: Manifest, dataset: Dataset, network: Network) -> None:
        self._manifest, self._ignore_index = manifest, dataset.ignore_index
        self._reference = Reference(network.module, manifest.preprocess)
        self._scored = scored(manifest, dataset)
        self._confusions: dict[str, list[NDArray[np.int64]]] = {}  # by group of images
        self._truths = 0
        self._agreements: dict[str, list[float]] = {}
        self._noise: list[float] = []

    def fit(self, sample: Sample) -> Frame:
        return resize_frame(sample.frame, self._manifest.frame)

    def reference(self, frame: Frame) -> Labels:
        return self._reference.run(frame)[1]

    def exact(self, exact: Exact, frame: Frame) -> Labels:
        return labels_of(exact.run(frame[None]))

    def add(self, sample: Sample, frame: Frame, outputs: Outputs, reference: Labels, ideal: Labels | None) -> None:
        got, truth = labels_of(outputs), self._truth(sample)
        maps = {"reference": reference, "engine": got}
        self._agree("agreement", reference, got)
        if ideal is not None:
            maps["ideal"] = ideal
            self._agree("quantization", reference, ideal)
            self._agree("engine_error", ideal, got)
        if "logits" in outputs:
            self._noise.append(sqnr_db(self._reference.run(frame)[0], outputs["logits"][0]))
        if truth is not None and self._scored:
            for name, predicted in maps.items():
                counts = confusion(truth, predicted, len(self._manifest.classes), self._ignore_index)
                groups = self._confusions.setdefault(name, [])
                if len(groups) < GROUPS:
                    groups.append(counts)
                else:
                    groups[self._truths % GROUPS] += counts
            self._truths += 1

    def shown(self, sample: Sample, frame: Frame, outputs: Outputs, reference: Labels) -> Shown:
        return Shown(sample.name, frame, reference, labels_of(outputs), self._truth(sample))

    def figures(self) -> dict[str, Any]:
        precision = self._manifest.precision
        agreed = {name: float(np.mean(values)) for name, values in self._agreements.items()}
        found: dict[str, Any] = {"metric": "miou", "agreement": agreed["agreement"]}
        found["images"] = len(self._agreements["agreement"])
        if self._noise:
            found["sqnr_db"] = float(np.mean(self._noise))
        scores = {name: miou(np.sum(groups, 0)) for name, groups in self._confusions.items()}
        passed = agreed["agreement"] >= AGREEMENT[precision]
        if scores:
            found["reference"], found["engine"] = scores["reference"][0], scores["engine"][0]
            found["drop"] = found["reference"] - found["engine"]
            found.update(chance({name: self._left_out(name) for name in ("reference", "engine")}))
            names = [c.name for c in self._manifest.classes]
            found["per_class"] = {
                n: None if np.isnan(v) else float(v) for n, v in zip(names, scores["engine"][1], strict=True)
            }
            passed = passed and found["drop"] <= DROP[precision]
        found.update(losses(agreed, {name: mean for name, (mean, _) in scores.items()}))
        return {**found, "passed": bool(passed)}

    def _left_out(self, name: str) -> list[float]:
        groups = np.array(self._confusions[name])
        return [miou(groups.sum(0) - group)[0] for group in groups]

    def _truth(self, sample: Sample) -> Labels | None:
        return None if sample.labels is None else resize_labels(sample.labels, self._manifest.frame)

    def _agree(self, name: str, a: Labels, b: Labels) -> None:
        self._agreements.setdefault(name, []).append(agreement(a, b))
