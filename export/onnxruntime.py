"""ONNX → ONNX for ONNX Runtime: the clean graph, with the activations that its kernels are fast at; fp16 stores
the weights in half precision, int8 has the integer operators of its kernels (``onnxruntime_int8``).

ONNX Runtime's CPU kernels compute in float32: half-precision arithmetic there is emulated by casts around
every node. So fp16 halves the file and leaves the arithmetic; the casts of the weights fold at load.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeseg.export.onnxruntime_int8 import lower
from edgeseg.export.passes import suppress
from edgeseg.export.passes._rewrite import Rewriter, array, shape

PRECISIONS = ("fp32", "fp16", "int8")
FILE = "model.onnx"
SUPPRESSES = True  # boxes in the graph take less time than in NumPy (docs/rewrites.md)


def compile(model: ir.Model, precision: str, folder: Path) -> list[str]:
    """Write ``model`` (Q/DQ for int8) into ``folder``; returns the file names."""
    model = model.clone()
    if precision == "int8":
        lower(model)
        wide(model)
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


def wide(model: ir.Model) -> None:
    """The frame's mean and deviation by channel, written out along a row: channels lie innermost around integer
    convolutions, where a loop over three values at a time takes several times as long."""
    r = Rewriter(model)
    for node in [n for n in model.graph if n.op_type in ("Sub", "Mul")]:
        by_channel = array(node.inputs[1])
        if by_channel is not None and by_channel.shape == (1, 3, 1, 1):
            row = np.broadcast_to(by_channel, (1, 3, 1, shape(node.outputs[0])[3]))
            node.replace_input_with(1, r.const(np.ascontiguousarray(row), f"{node.outputs[0].name}_row"))
    r.finish()


def leaky(model: ir.Model) -> None:
    """A PReLU of one slope is a LeakyRelu, which the convolution before it takes in. PRelu is slow: where
    no slope is above 1 it is max(x, slope · x), bit for bit."""
    r = Rewriter(model)
    for node in [n for n in model.graph if n.op_type == "PRelu"]:
        x, slope, name = node.inputs[0], array(node.inputs[1]), str(node.outputs[0].name)
        if slope is None:
            continue
        if slope.size == 1:
            r.replace(node.outputs[0], r.op("LeakyRelu", [x], f"{name}_leaky", alpha=float(slope.flat[0])))
        elif slope.max() <= 1:
            product = r.op("Mul", [x, node.inputs[1]], f"{name}_product")
            r.replace(node.outputs[0], r.op("Max", [x, product], f"{name}_max"))
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
