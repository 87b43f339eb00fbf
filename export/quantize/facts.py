"""All that a calibration follows from, as digests, and what of it differs from another's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.export.quantize.store import Facts

CODE = (  # what finds the numbers that are kept
    "histogram.py", "_session.py", "plan.py", "equalize.py", "observe.py", "../sensitivity/graph.py",
    "../sensitivity/operators.py", "../sensitivity/layers.py", "../sensitivity/weigh.py",
)  # fmt: skip


def of_model(model: ir.Model) -> dict[str, str]:
    """Of a graph: its weights (float constants, but for a Resize's), and all the rest."""
    graph, weights = hashlib.sha256(), hashlib.sha256()
    for name, value in sorted(model.graph.initializers.items()):
        is_weight = value.dtype == ir.DataType.FLOAT and any(u.node.op_type != "Resize" for u in value.uses())
        digest, tensor = (weights if is_weight else graph), value.const_value
        assert tensor is not None
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.tobytes())
    for value in (*model.graph.inputs, *model.graph.outputs):
        graph.update(ir.serde.serialize_value(value).SerializeToString(deterministic=True))
    for node in model.graph:
        graph.update(ir.serde.serialize_node(node).SerializeToString(deterministic=True))
    return {"graph": graph.hexdigest(), "weights": weights.hexdigest()}


def of_frame(frame: NDArray[np.uint8]) -> str:
    return hashlib.sha256(f"{frame.shape}".encode() + frame.tobytes()).hexdigest()


def of_code() -> dict[str, str]:
    """Of what computes: the sources of this package's calibration, and the packages it uses."""
    digest = hashlib.sha256()
    for name in CODE:
        digest.update((Path(__file__).parent / name).read_bytes())
    packages = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "numpy", "torch"))
    return {"code": digest.hexdigest(), "packages": packages}


def told(facts: Facts) -> dict[str, str]:
    """``facts`` for a manifest: a list of digests as the digest of all."""
    return {
        k: v if isinstance(v, str) else hashlib.sha256(json.dumps(v).encode()).hexdigest() for k, v in facts.items()
    }


def nearest(facts: Facts, others: Iterable[Facts]) -> str | None:
    """What differs from that of ``others`` which ``facts`` differ least from; None where there are none."""
    found = [differences(other, facts) for other in others]
    least = min(found, key=len, default=None)
    return None if least is None else ", ".join(least)


def differences(old: Facts, new: Facts) -> list[str]:
    """In words; what follows from another difference is not named."""
    changed = {key for key in (*old, *new) if old.get(key) != new.get(key)}
    said = []
    if "code" in changed:
        said.append("edgeseg's calibration is another version's")
    if "packages" in changed:
        said.append(f"{old.get('packages')} → {new.get('packages')}")
    sizes = [key for key in ("frame size", "network size") if key in changed]
    said += [f"{key} {old.get(key)} → {new.get(key)}" for key in sizes]
    if "weights" in changed:
        said.append("the weights changed")
    if "graph" in changed and not sizes:
        said.append("the graph changed")
    if "frame size" not in changed:
        said += [_frames(old[key], new[key]) for key in ("frames", "balance") if key in changed][:1]
    return said


def _frames(old: str | list[str], new: str | list[str]) -> str:
    if len(old) != len(new):
        return f"{len(old)} → {len(new)} frames"
    if sorted(old) == sorted(new):
        return "the frames' order changed"
    return f"{sum(a != b for a, b in zip(old, new, strict=True))} of {len(new)} frames changed"
