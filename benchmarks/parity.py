"""Does the engine see what the network sees? Measured on real frames, with two causes kept apart.

*Quantization loss* is what the Q/DQ graph in float arithmetic loses against PyTorch: ours to reduce.
*Engine error* is what the engine loses against that graph: a wrong kernel, a saturating one, a wrong lowering.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg import models
from edgeseg.artifact import Artifact, load, sha256
from edgeseg.datasets import Dataset
from edgeseg.errors import InputError
from edgeseg.export._exact import Exact
from edgeseg.images import resize_frame, resize_labels
from edgeseg.manifest import Manifest
from edgeseg.metrics import agreement, confusion, miou, sqnr_db
from edgeseg.models._reference import Reference
from edgeseg.progress import Progress, Silent
from edgeseg.runtimes import open_artifact

# The gate of each precision: least agreement of labels with PyTorch, most points of mIoU lost.
AGREEMENT = {"fp32": 0.999, "fp16": 0.995, "int8": 0.0}
DROP = {"fp32": 0.1, "fp16": 0.3, "int8": 1.5}

Labels = NDArray[np.uint8]


@dataclass
class Shown:
    """One frame for the report: all uint8, ``frame`` H×W×3, the maps H×W; ``truth`` where there are labels."""

    title: str
    frame: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    engine: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None


@dataclass
class Parity:
    """The result of ``check``; ``to_json`` is design's "parity" object. Points are hundredths of mIoU."""

    figures: dict[str, Any]
    shown: list[Shown] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return bool(self.figures["passed"])

    def to_json(self) -> dict[str, Any]:
        return self.figures


def _reference_labels(reference: Reference, frame: NDArray[np.uint8]) -> Labels:
    return reference.run(frame)[1]


def _exact_labels(exact: Exact, frame: NDArray[np.uint8]) -> Labels:
    labels: Labels = _outputs(exact.run(frame[None]))["labels"]
    return labels


class Answers:
    """Label maps of PyTorch and of quantized graphs, by frame: artifacts of one network share them."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Labels] = {}

    def find(self, key: Hashable, compute: Callable[[], Labels]) -> Labels:
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]


def check(
    artifact: str | Path, dataset: Dataset, *, limit: int | None = None, weights: str | Path | None = None,
    show: int = 3, progress: Progress | None = None, answers: Answers | None = None,
) -> Parity:  # fmt: skip
    """Compare an artifact with its PyTorch network on ``dataset`` (the first ``limit`` frames, spread evenly).

    Args:
        weights: the checkpoint, where the manifest's path no longer holds.
        show: how many frames to keep for the report.
        answers: what was computed for other artifacts on this ``dataset``, so as not to compute it again.

    Raises:
        InputError: the checkpoint is not found or not the one the artifact was made from.
    """
    opened = load(artifact)
    manifest = opened.manifest
    reference = Reference(network_of(manifest, weights).module, manifest.preprocess)
    exact, answers = _exact(opened), answers or Answers()
    network = (manifest.model, manifest.preprocess, manifest.frame)
    picked = _spread(len(dataset), limit)
    scored = dataset.classes and _fits(manifest, dataset)
    tally = _Tally(len(manifest.classes), dataset.ignore_index, bool(scored))
    shown: list[Shown] = []
    every = max(1, len(picked) // max(show, 1))
    with (
        open_artifact(artifact, selftest=False) as engine,
        (progress or Silent()).task(f"check {opened.path.name}", len(picked)) as done,
    ):
        for position, index in enumerate(picked):
            sample = dataset[index]
            frame = resize_frame(sample.frame, manifest.frame)
            truth = None if sample.labels is None else resize_labels(sample.labels, manifest.frame)
            got = _outputs(engine.run({"frame": frame[None]}))
            labels = answers.find((network, index), partial(_reference_labels, reference, frame))
            logits = reference.run(frame)[0] if "logits" in got else None
            ideal = answers.find((manifest.onnx_sha256, index), partial(_exact_labels, exact, frame)) if exact else None
            tally.add(truth, logits, labels, got, ideal)
            if position % every == every // 2 and len(shown) < show:
                shown.append(Shown(sample.name, frame, labels, got["labels"], truth))
            done()
    return Parity(tally.figures(manifest), shown)


def network_of(manifest: Manifest, weights: str | Path | None = None) -> models.Network:
    """The network an artifact was made from, with its weights: found by the manifest or given, checked by hash."""
    entry = manifest.model
    source = weights or entry.weights.source
    try:
        found = models.load(entry.name, source, entry.variant, len(manifest.classes))
    except InputError as error:
        if weights:
            raise
        raise InputError(f"the checkpoint this artifact was made from is gone ({error}): give --weights FILE") from None
    if found.weights.sha256 != entry.weights.sha256:
        raise InputError(
            f"{source} is not the checkpoint this artifact was made from (its hash differs): give --weights FILE"
        )
    return found


def _exact(artifact: Artifact) -> Exact | None:
    """The int8 artifact's own Q/DQ graph, kept beside it by ``build``; None where it is not int8 or not there."""
    manifest = artifact.manifest
    path = artifact.path.resolve().parent / "onnx" / f"{manifest.onnx_sha256}.onnx"
    if manifest.precision != "int8" or not path.is_file() or sha256(path) != manifest.onnx_sha256:
        return None
    return Exact(path)


def _spread(count: int, limit: int | None) -> list[int]:
    if limit is None or limit >= count:
        return list(range(count))
    if limit < 1:
        raise InputError(f"--limit must be at least 1, not {limit}")
    return sorted({int(i) for i in np.linspace(0, count - 1, limit).round()})


def _fits(manifest: Manifest, dataset: Dataset) -> bool:
    """Whether the data's class ids are the artifact's: the same names in the same order."""
    names = [c.name for c in manifest.classes]
    theirs = [c.name for c in dataset.classes]
    if theirs[: len(names)] != names:
        raise InputError(
            f"the data's classes are not the artifact's ({', '.join(theirs[:4])}, … against {', '.join(names[:4])}, …):"
            " build with --data of this kind, or --classes FILE"
        )
    return True


def _outputs(outputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    found = {name: values[0] for name, values in outputs.items()}
    if "labels" not in found:
        found["labels"] = found["logits"].argmax(0).astype(np.uint8)
    return found


class _Tally:
    """Running sums over the frames."""

    def __init__(self, classes: int, ignore_index: int | None, scored: bool) -> None:
        self.classes, self.ignore_index, self.scored = classes, ignore_index, scored
        self.confusions: dict[str, NDArray[np.int64]] = {}
        self.agreements: dict[str, list[float]] = {}
        self.noise: dict[str, list[float]] = {}
        self.frames = 0

    def add(
        self, truth: NDArray[np.uint8] | None, logits: NDArray[np.float32] | None, labels: Labels,
        got: dict[str, NDArray[Any]], ideal: Labels | None,
    ) -> None:  # fmt: skip
        self.frames += 1
        maps = {"reference": labels, "engine": got["labels"]}
        self._agree("agreement", labels, got["labels"])
        if ideal is not None:
            maps["ideal"] = ideal
            self._agree("quantization", labels, ideal)
            self._agree("engine_error", ideal, got["labels"])
        if logits is not None:
            self.noise.setdefault("sqnr_db", []).append(sqnr_db(logits, got["logits"]))
        if truth is not None and self.scored:
            for name, predicted in maps.items():
                counts = confusion(truth, predicted, self.classes, self.ignore_index)
                self.confusions[name] = self.confusions.get(name, 0) + counts

    def _agree(self, name: str, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> None:
        self.agreements.setdefault(name, []).append(agreement(a, b))

    def figures(self, manifest: Manifest) -> dict[str, Any]:
        agreed = {name: float(np.mean(values)) for name, values in self.agreements.items()}
        found: dict[str, Any] = {"metric": "miou", "agreement": agreed["agreement"], "images": self.frames}
        found.update({name: float(np.mean(values)) for name, values in self.noise.items()})
        scores = {name: miou(counts) for name, counts in self.confusions.items()}
        passed = agreed["agreement"] >= AGREEMENT[manifest.precision]
        if scores:
            found["reference"], found["engine"] = scores["reference"][0], scores["engine"][0]
            found["drop"] = found["reference"] - found["engine"]
            names = [c.name for c in manifest.classes]
            found["per_class"] = {
                n: None if np.isnan(v) else float(v) for n, v in zip(names, scores["engine"][1], strict=True)
            }
            passed = passed and found["drop"] <= DROP[manifest.precision]
        if "quantization" in agreed:
            found["quantization"] = {"agreement": agreed["quantization"]}
            found["engine_error"] = {"agreement": agreed["engine_error"]}
            if "ideal" in scores:
                found["quantization"]["drop"] = found["reference"] - scores["ideal"][0]
                found["engine_error"]["drop"] = scores["ideal"][0] - found["engine"]
        return {**found, "passed": bool(passed)}
