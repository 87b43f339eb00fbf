"""onnxsim's simplification, where it is installed and where its result proves equal on random inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from edgeseg.export.passes._rewrite import shape

TOLERANCE = 1e-5


def apply(model: ir.Model) -> bool:
    """Constant folding and fusion by onnxsim, in place; False where it is absent, fails or changes results."""
    try:
        import onnxsim
    except ImportError:
        return False
    example = _example(model)
    proto = ir.to_proto(model)
    before = _run(proto, example)
    try:
        proto, _ = onnxsim.simplify(proto)
    except Exception:  # it wraps a C++ optimizer that raises whatever it raises; without it we lose nothing
        return False
    if not equal(before, _run(proto, example)):
        return False
    simplified = ir.from_proto(proto)
    model.graph = simplified.graph
    model.opset_imports.update(simplified.opset_imports)
    return True


def equal(left: Sequence[NDArray[np.float32]], right: Sequence[NDArray[np.float32]]) -> bool:
    """Whether two models' outputs are the same, relative to each output's largest value."""
    return len(left) == len(right) and all(
        x.shape == y.shape and np.abs(x - y).max() <= TOLERANCE * max(np.abs(x).max(), 1e-30)
        for x, y in zip(left, right, strict=True)
    )


def _run(proto: onnx.ModelProto, feeds: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False  # which hold what is freed: U-Net's twice
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def _example(model: ir.Model) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return {str(v.name): rng.random(shape(v), np.float32) for v in model.graph.inputs}
