"""ONNX → ONNX for ONNX Runtime: the clean graph, with the activations that its kernels are fast at; fp16 stores
the weights in half precision.

ONNX Runtime's CPU kernels compute in float32: half-precision arithmetic there is emulated by casts around
every node. So fp16 halves the file and leaves the arithmetic; the casts of the weights fold at load.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeseg.export.passes import suppress
from edgeseg.export.passes._rewrite import Rewriter, array

PRECISIONS = ("fp32", "fp16", "int8")
FILE = "model.onnx"
SUPPRESSES = True  # boxes in the graph take less time than in NumPy (docs/rewrites.md)


def compile(model: ir.Model, precision: str, folder: Path) -> list[str]:
    """Write ``model`` (Q/DQ for int8) into ``folder``; returns the file names."""
    model = model.clone()
    leaky(model)
    if precision == "fp16":
        halve_weights(model)
    (folder / FILE).write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))
    return [FILE]


def toolchain() -> dict[str, str]:
    return {"onnxruntime": version("onnxruntime"), "onnx": version("onnx")}


def weight_levels() -> int:
    """All of int8: the runtime asks for the kernels that do not saturate."""
    return 127


def leaky(model: ir.Model) -> None:
    """A PReLU of one slope is a LeakyRelu, which the convolution before it takes in; PRelu's kernel is a slow one."""
    r = Rewriter(model)
    for node in [n for n in model.graph if n.op_type == "PRelu"]:
        slope = array(node.inputs[1])
        if slope is not None and slope.size == 1:
            name = str(node.outputs[0].name)
            r.replace(node.outputs[0], r.op("LeakyRelu", [node.inputs[0]], f"{name}_leaky", alpha=float(slope.flat[0])))
    r.finish()


def halve_weights(model: ir.Model) -> None:
    """Every float32 initializer of more than one element becomes float16 behind a Cast, but for those that make boxes:
    half precision is coarser than a pixel's tenth."""
    r = Rewriter(model)
    for value in list(model.graph.initializers.values()):
        if value.dtype != ir.DataType.FLOAT or value.const_value is None or value.const_value.size < 2:
            continue
        if suppress.is_part(str(value.name)):
            continue
        half = r.const(value.const_value.numpy().astype(np.float16), f"{value.name}_half")
        r.replace(value, r.op("Cast", [half], f"{value.name}_float", to=ir.DataType.FLOAT))
    r.finish()
