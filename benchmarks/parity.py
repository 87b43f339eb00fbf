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

from edgeseg import models
from edgeseg.artifact import Artifact, load, sha256
from edgeseg.benchmarks._detection import Boxes
from edgeseg.benchmarks._judge import Judge, Shown
from edgeseg.benchmarks._semantic import Semantic
from edgeseg.datasets import Dataset
from edgeseg.errors import InputError
from edgeseg.export._exact import Exact
from edgeseg.manifest import Manifest
from edgeseg.progress import Progress, Silent
from edgeseg.runtimes import open_artifact

JUDGES: dict[str, Callable[[Manifest, Dataset, models.Network], Judge]] = {"semantic": Semantic, "detection": Boxes}


@dataclass
class Parity:
    """The result of ``check``; ``to_json`` is design's "parity" object. Points are hundredths of mIoU or AP.
    ``left_out``: the engine's score with each of up to 20 groups of images left out, in points."""

    figures: dict[str, Any]
    left_out: list[float] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return bool(self.figures["passed"])

    def to_json(self) -> dict[str, Any]:
        return self.figures


class Answers:
    """What PyTorch and quantized graphs answer, by frame: artifacts of one network share them."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def find(self, key: Hashable, compute: Callable[[], Any]) -> Any:
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
    judge = JUDGES[manifest.model.task](manifest, dataset, network_of(manifest, weights))
    exact, answers = _exact(opened), answers or Answers()
    network = (manifest.model, manifest.preprocess, manifest.frame)
    picked = _spread(len(dataset), limit)
    shown: list[Shown] = []
    every = max(1, len(picked) // max(show, 1))
    with (
        open_artifact(artifact, selftest=False) as engine,
        (progress or Silent()).task(f"check {opened.path.name}", len(picked)) as done,
    ):
        for position, index in enumerate(picked):
            sample = dataset[index]
            frame = judge.fit(sample)
            outputs = engine.run({"frame": frame[None]})
            wanted = answers.find((network, index), partial(judge.reference, frame))
            ideal = answers.find((manifest.onnx_sha256, index), partial(judge.exact, exact, frame)) if exact else None
            judge.add(sample, frame, outputs, wanted, ideal)
            if position % every == every // 2 and len(shown) < show:
                shown.append(judge.shown(sample, frame, outputs, wanted))
            done()
    figures = judge.figures()
    return Parity(figures, figures.pop("left_out", []), shown)


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
