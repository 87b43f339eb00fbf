"""Tuned weights, in the graph and in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.export.passes._rewrite import Rewriter
from edgeseg.export.quantize.plan import Plan
from edgeseg.export.quantize.store import Arrays, Facts

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Tuned:
    """``weights`` and ``biases`` of convolutions by their nodes' names; ``distance`` from the float graph's answers
    before and after, in ``steps``."""

    weights: Weights
    biases: Weights
    distance: tuple[float, float]
    steps: int

    def put_into(self, model: ir.Model, keep: Collection[str]) -> ir.Model:
        """A copy of the float ``model`` with them; layers of ``keep`` have their own weights yet."""
        kept = {node.name for name, nodes in Plan(model).layers().items() if name in keep for node in nodes}
        model = model.clone()
        r = Rewriter(model)
        for node in model.graph:
            name = str(node.name)
            if name in kept:
                continue
            if name in self.weights:
                node.replace_input_with(1, r.const(self.weights[name], f"{name}_tuned"))
            if name in self.biases:
                node.resize_inputs(3)
                node.replace_input_with(2, r.const(self.biases[name], f"{name}_tuned_bias"))
        r.finish()
        return model

    def packed(self) -> Arrays:
        arrays: Arrays = {f"weight {name}": values for name, values in self.weights.items()}
        arrays |= {f"bias {name}": values for name, values in self.biases.items()}
        return arrays | {"distance": np.array(self.distance), "steps": np.array(self.steps)}


def unpacked(arrays: Arrays) -> Tuned:
    weights, biases = Weights(), Weights()
    for key, values in arrays.items():
        kind, _, name = key.partition(" ")
        if kind in ("weight", "bias"):
            (weights if kind == "weight" else biases)[name] = values.astype(np.float32, copy=False)
    before, after = arrays["distance"].tolist()
    return Tuned(weights, biases, (before, after), int(arrays["steps"]))


def facts_of(calibration: str, levels: int, floats: Collection[str]) -> Facts:
    """What tuning follows from: the ``calibration``'s digest, and what is not in it."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return {
        "calibration": calibration, "weight_levels": str(levels), "float_layers": sorted(floats),
        "code": digest.hexdigest(), "packages": f"torch {version('torch')}",
    }  # fmt: skip
