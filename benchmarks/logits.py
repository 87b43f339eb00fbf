"""How close an engine's logits, or raw outputs, are to PyTorch's: a signal-to-quantization-noise ratio in decibels."""

from __future__ import annotations

import importlib
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeseg.artifact import load
from edgeseg.benchmarks.parity import network_of
from edgeseg.datasets import Dataset
from edgeseg.export._tasks import TASKS
from edgeseg.export.twin import logits_twin, raw_twin
from edgeseg.metrics import sqnr_db
from edgeseg.spec import TensorSpec

TWINS = {"semantic": logits_twin, "detection": raw_twin}


def sqnr(artifact: str | Path, dataset: Dataset, frames: int = 2) -> float:
    """Mean over the first ``frames`` of ``dataset``: the artifact's graph, compiled anew with its logits (of a detector
    its raw outputs, of which the worse one counts) as output, against PyTorch.

    Raises:
        InputError: the checkpoint or the graph that the artifact was made from is gone.
    """
    opened = load(artifact)
    manifest = opened.manifest
    graph = opened.path.resolve().parent / "onnx" / f"{manifest.onnx_sha256}.onnx"
    network, task = network_of(manifest), TASKS[manifest.model.task]
    picked = (dataset[index].frame for index in range(min(frames, len(dataset))))
    seen = [task.fit(image, manifest.frame, manifest.preprocess) for image in picked]
    wanted = [task.answers(network, manifest.preprocess, frame) for frame in seen]
    outputs = tuple(TensorSpec(name, wanted[0][name].shape, "float32") for name in task.outputs)
    described = replace(manifest, outputs=outputs)
    with tempfile.TemporaryDirectory() as folder:
        TWINS[manifest.model.task](graph, manifest.target, manifest.precision, Path(folder))
        engine = importlib.import_module(f"edgeseg.runtimes.{manifest.target}").Runtime(Path(folder), described, None)
        try:
            found = []
            for frame, wants in zip(seen, wanted, strict=True):
                got = engine.run({"frame": frame[None]})
                found.append(min(sqnr_db(wants[name], got[name]) for name in task.outputs))
        finally:
            engine.close()
    return float(np.mean(found))
