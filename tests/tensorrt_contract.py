"""What TensorRT is asked of every network, without a GPU: the pre-flight of each generation, and a build by NVIDIA's
parser and builder."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import onnx_ir as ir
import pytest

from edgeseg.export import preflight, tensorrt, tensorrt_graph
from edgeseg.export.parser_operators import KNOWN

GENERATIONS = sorted(KNOWN)
needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None or importlib.util.find_spec("tensorrt") is not None,
    reason="TensorRT for RTX is not installed (pip install 'edgeseg[tensorrt-rtx]'), or TensorRT comes before it",
)


def passes_the_preflight(model: ir.Model, precision: str, generation: str) -> ir.Model:
    """The graph as that generation gets it."""
    form = tensorrt_graph.prepare(model, precision, generation)
    assert preflight.check(form, generation) == []
    assert form.opset_imports[""] <= preflight.OPSET[generation] and form.ir_version <= preflight.IR[generation]
    return form


def builds(model: ir.Model, precision: str, folder: Path) -> None:
    assert tensorrt.compile(model, precision, folder) == ["model.plan"]
    assert (folder / "model.plan").stat().st_size > 10_000
