"""What ``check`` asks of a task, and what it keeps for the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeseg.datasets import Dataset, Sample
from edgeseg.errors import InputError
from edgeseg.export._exact import Exact
from edgeseg.manifest import Manifest
from edgeseg.metrics import jackknife
from edgeseg.runtimes._runtime import Outputs

Frame = NDArray[np.uint8]
GROUPS = 20  # of images, each of which is left out once to tell how far a figure is chance


@dataclass
class Shown:
    """One frame for the report: all uint8, ``frame`` H×W×3, the maps H×W; ``truth`` where there are labels. Maps of
    boxes hold their outlines, and 255 elsewhere."""

    title: str
    frame: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    engine: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None


class Judge(Protocol):
    """Compares an engine's answers with PyTorch's over a data set. An answer is what the task compares: labels,
    objects; ``check`` keeps those of PyTorch and of the exact graph for the next artifact."""

    def fit(self, sample: Sample) -> Frame:
        """The sample's image as the artifact's frame."""

    def reference(self, frame: Frame) -> Any:
        """PyTorch's answer."""

    def exact(self, exact: Exact, frame: Frame) -> Any:
        """The quantized graph's answer in exact arithmetic."""

    def add(self, sample: Sample, frame: Frame, outputs: Outputs, reference: Any, ideal: Any | None) -> None:
        """Count a frame: the engine's ``outputs``, PyTorch's answer, the exact graph's where there is one."""

    def shown(self, sample: Sample, frame: Frame, outputs: Outputs, reference: Any) -> Shown:
        """That frame for the report."""

    def figures(self) -> dict[str, Any]:
        """Design's "parity" object. Where there is a truth, ``left_out`` has the engine's score without each group."""


def scored(manifest: Manifest, dataset: Dataset) -> bool:
    """Whether the data names classes, which are then the artifact's: the same names in the same order.

    Raises:
        InputError: they are others.
    """
    names = [c.name for c in manifest.classes]
    theirs = [c.name for c in dataset.classes]
    if theirs and theirs[: len(names)] != names:
        raise InputError(
            f"the data's classes are not the artifact's ({', '.join(theirs[:4])}, … against {', '.join(names[:4])}, …):"
            " build with --data of this kind, or --classes FILE"
        )
    return bool(theirs)


def chance(left_out: dict[str, list[float]]) -> dict[str, Any]:
    """What figures say of it: the drop's standard error in points, from the scores without each group of images."""
    engine, reference = left_out["engine"], left_out["reference"]
    error = jackknife([r - e for r, e in zip(reference, engine, strict=True)])
    return {"drop_error": None if np.isnan(error) else error, "left_out": engine}


def losses(agreed: dict[str, float], scores: dict[str, float]) -> dict[str, Any]:
    """The int8 loss by its causes, from agreements and, where there is a truth, from scores."""
    if "quantization" not in agreed:
        return {}
    found = {name: {"agreement": agreed[name]} for name in ("quantization", "engine_error")}
    if "ideal" in scores:
        found["quantization"]["drop"] = scores["reference"] - scores["ideal"]
        found["engine_error"]["drop"] = scores["ideal"] - scores["engine"]
    return found
