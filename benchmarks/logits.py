"""How close an engine's logits are to PyTorch's, as a signal-to-quantization-noise ratio in decibels."""

from __future__ import annotations

import importlib
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeseg.artifact import load
from edgeseg.benchmarks.parity import network_of
from edgeseg.datasets import Dataset
from edgeseg.export.twin import LOGITS, logits_twin
from edgeseg.images import resize_frame
from edgeseg.metrics import sqnr_db
from edgeseg.models._reference import Reference
from edgeseg.spec import TensorSpec


def sqnr(artifact: str | Path, dataset: Dataset, frames: int = 2) -> float:
    """Mean over the first ``frames`` of ``dataset``: the artifact's graph, compiled anew with its logits as output,
    against PyTorch.

    Raises:
        InputError: the checkpoint or the graph that the artifact was made from is gone.
    """
    opened = load(artifact)
    manifest = opened.manifest
    graph = opened.path.resolve().parent / "onnx" / f"{manifest.onnx_sha256}.onnx"
    height, width = manifest.frame
    shape = (1, len(manifest.classes), height, width)
    described = replace(manifest, outputs=(TensorSpec(LOGITS, shape, "float32"),))
    reference = Reference(network_of(manifest).module, manifest.preprocess)
    with tempfile.TemporaryDirectory() as folder:
        logits_twin(graph, manifest.target, manifest.precision, Path(folder))
        engine = importlib.import_module(f"edgeseg.runtimes.{manifest.target}").Runtime(Path(folder), described, None)
        try:
            found = []
            for index in range(min(frames, len(dataset))):
                frame = resize_frame(dataset[index].frame, manifest.frame)
                got = engine.run({"frame": frame[None]})[LOGITS][0]
                found.append(sqnr_db(reference.run(frame)[0], got))
        finally:
            engine.close()
    return float(np.mean(found))
