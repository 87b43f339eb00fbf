"""The same engine with its logits or raw outputs laid open: what its answer hides is measured on them."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from edgeseg.errors import InputError
from edgeseg.export import _targets
from edgeseg.export.passes._rewrite import clean

LOGITS = "logits"


def logits_twin(graph: Path, target: str, precision: str, folder: Path) -> list[str]:
    """Compile the ONNX file ``graph``, which an artifact was made from, for the same target and precision into
    ``folder`` with ``logits`` float32 N×C×H×W as its one output; returns the file names.

    Raises:
        InputError: the graph has no logits.
    """
    model = ir.load(graph)
    values = {str(v.name): v for node in model.graph for v in node.outputs}
    found = values.get(f"{LOGITS}_dq", values.get(LOGITS))
    if found is None:
        raise InputError(f"{graph} has no tensor '{LOGITS}': it was not made by this edgeseg's build")
    if found.name != LOGITS:
        values[LOGITS].name, found.name = f"{LOGITS}_float", LOGITS
    model.graph.outputs[:] = [found]
    clean(model)
    return _targets.load(target, precision).compile(model, precision, folder)


def raw_twin(graph: Path, target: str, precision: str, folder: Path) -> list[str]:
    """Compile the ONNX file ``graph``, which a detector was made from, as it stands: it ends at the raw outputs.

    Raises:
        InputError: the graph is not there.
    """
    if not graph.is_file():
        raise InputError(f"{graph} is gone: build the artifact again")
    return _targets.load(target, precision).compile(ir.load(graph), precision, folder)
