"""How close an engine's logits, or raw outputs, are to PyTorch's: a signal-to-quantization-noise ratio in decibels."""

from __future__ import annotations

import importlib
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeseg.artifact import load
from edgeseg.benchmarks.parity import network_of
from edgeseg.datasets import Dataset
from edgeseg.export.twin import LOGITS, logits_twin, raw_twin
from edgeseg.images import letterbox_frame, resize_frame
from edgeseg.manifest import Manifest
from edgeseg.metrics import sqnr_db
from edgeseg.models import Network
from edgeseg.models._reference import DetectionReference, Reference
from edgeseg.spec import TensorSpec


def sqnr(artifact: str | Path, dataset: Dataset, frames: int = 2) -> float:
    """Mean over the first ``frames`` of ``dataset``: the artifact's graph, compiled anew with its logits (of a detector
    its raw outputs, of which the worse one counts) as output, against PyTorch.

    Raises:
        InputError: the checkpoint or the graph that the artifact was made from is gone.
    """
    opened = load(artifact)
    manifest = opened.manifest
    graph = opened.path.resolve().parent / "onnx" / f"{manifest.onnx_sha256}.onnx"
    laid_open = TASKS[manifest.model.task](manifest, network_of(manifest))
    said = zip(laid_open.names, laid_open.reference(laid_open.fit(dataset[0].frame)), strict=True)
    described = replace(manifest, outputs=tuple(TensorSpec(name, (1, *v.shape), "float32") for name, v in said))
    with tempfile.TemporaryDirectory() as folder:
        laid_open.twin(graph, manifest.target, manifest.precision, Path(folder))
        engine = importlib.import_module(f"edgeseg.runtimes.{manifest.target}").Runtime(Path(folder), described, None)
        try:
            found = []
            for index in range(min(frames, len(dataset))):
                frame = laid_open.fit(dataset[index].frame)
                got = engine.run({"frame": frame[None]})
                wanted = zip(laid_open.names, laid_open.reference(frame), strict=True)
                found.append(min(sqnr_db(want, got[name][0]) for name, want in wanted))
        finally:
            engine.close()
    return float(np.mean(found))


class _Semantic:
    names: tuple[str, ...] = (LOGITS,)
    twin = staticmethod(logits_twin)

    def __init__(self, manifest: Manifest, network: Network) -> None:
        self._frame, self._reference = manifest.frame, Reference(network.module, manifest.preprocess)

    def fit(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return resize_frame(image, self._frame)

    def reference(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        return (self._reference.run(frame)[0],)


class _Detection:
    names: tuple[str, ...] = ("class_logits", "box_deltas")
    twin = staticmethod(raw_twin)

    def __init__(self, manifest: Manifest, network: Network) -> None:
        self._frame, self._mean = manifest.frame, manifest.preprocess.mean
        self._reference = DetectionReference(network.module, manifest.preprocess)

    def fit(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return letterbox_frame(image, self._frame, self._mean)[0]

    def reference(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        return self._reference.run(frame)


TASKS: dict[str, type[_Semantic] | type[_Detection]] = {"semantic": _Semantic, "detection": _Detection}
