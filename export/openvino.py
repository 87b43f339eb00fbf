"""ONNX → OpenVINO IR (``model.xml``, ``model.bin``).

The IR's int8 form is FakeQuantize, written here from the graph's own scales. Q/DQ is not left to the ONNX
frontend: behind a Concat it compiles to wrong int8 kernels without a word. Labels: TopK over a channel axis
that a convolution left innermost runs without its vector kernel, so it gets a flat map.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx_ir as ir
import openvino as ov

from edgeseg.cpu import EXACT_LEVELS, saturates
from edgeseg.export.passes._rewrite import Rewriter, array, attribute, floats, shape

PRECISIONS = ("fp32", "fp16", "int8")
FILES = ("model.xml", "model.bin")


def compile(model: ir.Model, precision: str, folder: Path) -> list[str]:
    """Write ``model`` (Q/DQ for int8) as IR into ``folder``; returns the file names."""
    model = model.clone()
    _fake_quantize(model)
    _flat_argmax(model)
    network = ov.Core().read_model(ir.to_proto(model).SerializeToString())
    _name_by_place(network)
    ov.save_model(network, folder / FILES[0], compress_to_fp16=precision == "fp16")
    return list(FILES)


def toolchain() -> dict[str, str]:
    return {"openvino": version("openvino")}


def weight_levels() -> int:
    """64 where the int8 kernels add pairs of products in 16 bits and saturate (x86 without VNNI), else 127."""
    return EXACT_LEVELS if saturates() else 127


def _name_by_place(network: ov.Model) -> None:
    """OpenVINO numbers what it adds by a counter of the process; by its place it has the same name every time."""
    for i, operation in enumerate(network.get_ordered_ops()):
        kind, name = operation.get_type_name(), operation.get_friendly_name()
        if re.fullmatch(rf"{kind}_\d+", name):
            operation.set_friendly_name(f"{kind}_{i}")


def _fake_quantize(model: ir.Model) -> None:
    r = Rewriter(model)
    for node in [n for n in model.graph if n.op_type == "DequantizeLinear"]:
        source, output, name = node.inputs[0], node.outputs[0], str(node.outputs[0].name)
        scale = np.asarray(array(node.inputs[1]), np.float32)
        weight = array(source)
        assert source is not None
        if weight is not None:
            axis = attribute(node, "axis", 1)
            scale = scale.reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
            wide = r.op("Cast", [source], f"{name}_cast", to=ir.DataType.FLOAT)
            r.replace(output, r.op("Mul", [wide, r.const(scale, f"{name}_scale")], f"{name}_weight"))
            continue
        quantize = source.producer()
        assert quantize is not None
        low, high = r.const(floats(-128 * scale), f"{name}_low"), r.const(floats(127 * scale), f"{name}_high")
        fake = r.op("FakeQuantize", [quantize.inputs[0], low, high, low, high], f"{name}_fq", levels=256)
        producer = fake.producer()
        assert producer is not None
        producer.domain = "org.openvinotoolkit"
        r.replace(output, fake)
    model.opset_imports["org.openvinotoolkit"] = 1
    r.finish()


def _flat_argmax(model: ir.Model) -> None:
    r = Rewriter(model)
    for node in [n for n in model.graph if n.op_type == "ArgMax"]:
        x, output = node.inputs[0], node.outputs[0]
        assert x is not None
        batch, classes, height, width = shape(x)
        flat = r.op("Reshape", [x, r.const(np.array([batch, classes, height * width]), "flat")], "logits_flat")
        best = r.op("ArgMax", [flat], "best_flat", axis=1, keepdims=0, select_last_index=0)
        r.replace(output, r.op("Reshape", [best, r.const(np.array([batch, height, width]), "map")], "best_map"))
    r.finish()
