"""Would TensorRT take this graph? Asked before any build, without TensorRT, of the generation that a board has.

An operator must be one that the generation's parser knows (parser_operators), used in a form that it takes. The forms
are those that the parsers' sources and messages refuse: TensorRT 8.5's and 10.1's (github.com/onnx/onnx-tensorrt,
docs/operators.md and the importers), and what TensorRT for RTX 1.7.1 was seen to refuse. For int8 graphs the rules of
int8_rules come on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeseg.errors import InputError
from edgeseg.export import int8_rules
from edgeseg.export.parser_operators import KNOWN
from edgeseg.export.passes._rewrite import array, attribute

OPSET = {"8.5": 17, "8.6": 17, "10": 20, "11": 20, "rtx": 20}
IR = {"8.5": 8, "8.6": 8, "10": 10, "11": 10, "rtx": 10}
EIGHT = ("8.5", "8.6")
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
TYPES = (*FLOATS[:2], *(ir.DataType[name] for name in ("INT32", "INT64", "INT8", "UINT8", "BOOL")))
RESIZE_FORMS = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")
# Inputs that the parsers read while they build the network.
CONSTANT_INPUTS = {"Slice": (3,), "Squeeze": (1,), "Unsqueeze": (1,), "Pad": (3,), "QuantizeLinear": (1, 2)}
REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
CONSTANT_INPUTS |= {f"Reduce{kind}": (1,) for kind in REDUCTIONS}

Rule = Callable[[ir.Node, str], "tuple[str, str] | None"]


@dataclass(frozen=True)
class Finding:
    """What a generation would refuse: the node, its operator, why, and what helps."""

    node: str
    operator: str
    problem: str
    mend: str

    def __str__(self) -> str:
        return f"node '{self.node}' ({self.operator}): {self.problem}; {self.mend}"


def generation(package: str, version: str) -> str:
    """The generation of a ``package`` ("tensorrt", "tensorrt_rtx") of a ``version`` such as "10.3.0"; between two, the
    older, which knows less.

    Raises:
        InputError: older than TensorRT 8.5, or no version.
    """
    if package == "tensorrt_rtx":
        return "rtx"
    try:
        number = tuple(int(part) for part in version.split(".")[:2])
    except ValueError:
        raise InputError(f"'{version}' is no version of TensorRT: give one such as 10.3.0") from None
    found = [name for name in KNOWN if name != "rtx" and tuple(int(part) for part in name.split(".")) <= number]
    if not found:
        raise InputError(f"TensorRT {version} is too old: 8.5, which JetPack 5.1 brings, is the oldest that is served")
    return found[-1]


def check(model: ir.Model, generation: str) -> list[Finding]:
    """All that TensorRT of ``generation`` ("8.5", "8.6", "10", "11", "rtx") would refuse in ``model``."""
    if generation not in KNOWN:
        raise InputError(f"unknown TensorRT generation '{generation}': use one of {', '.join(KNOWN)}")
    found = list(_versions(model, generation))
    for node in model.graph.all_nodes():
        for rule in RULES:
            if said := rule(node, generation):
                found.append(Finding(str(node.name or node.outputs[0].name), node.op_type, *said))
                break
    return found + [Finding(*said) for said in int8_rules.check(model)]


def refuse(model: ir.Model, generation: str) -> None:
    """Raises InputError, one line with the first finding and the number of the others, where ``check`` has any."""
    found = check(model, generation)
    if found:
        more = f" (and {len(found) - 1} more like it or else)" if len(found) > 1 else ""
        raise InputError(f"TensorRT {generation} would refuse {found[0]}{more}")


def _versions(model: ir.Model, generation: str) -> Iterator[Finding]:
    opset, newest = model.opset_imports.get("", 0), OPSET[generation]
    if opset > newest:
        yield Finding("graph", "opset", f"opset {opset}, read up to {newest}", "lower it (passes/opset17.py)")
    if model.ir_version > IR[generation]:
        mend = "lower it (passes/opset17.py)"
        yield Finding("graph", "IR", f"IR version {model.ir_version}, read up to {IR[generation]}", mend)
    for value in model.graph.inputs:
        if value.shape is None or not all(isinstance(d, int) for d in value.shape):
            yield Finding(str(value.name), "input", f"no static shape ({value.shape})", "export with fixed sizes")


def _known(node: ir.Node, generation: str) -> tuple[str, str] | None:
    if node.domain not in ("", "ai.onnx"):
        return f"a custom operator of '{node.domain}'", "write it in ONNX's own operators, or serve it by a plugin"
    if node.op_type not in KNOWN[generation]:
        having = [name for name, operators in KNOWN.items() if node.op_type in operators]
        mend = f"known to {', '.join(having)}" if having else "no generation knows it"
        extra = "; the unpool pass rewrites it" if node.op_type == "MaxUnpool" else ", rewrite it in older operators"
        return "the parser does not know this operator", mend + extra
    return None


def _pool(node: ir.Node, generation: str) -> tuple[str, str] | None:
    if node.op_type not in ("MaxPool", "AveragePool"):
        return None
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        return "its indices are used", "the unpool pass rewrites pooling by index"
    if any(d != 1 for d in attribute(node, "dilations", ())):
        return "dilations other than 1", "pool without dilation, or by slices and Max"
    if len(attribute(node, "kernel_shape", (1, 1))) not in (2, 3):
        return "neither 2D nor 3D", "add an axis of length 1"
    return None


def _uint8(node: ir.Node, generation: str) -> tuple[str, str] | None:
    """uint8 enters and leaves the network by a Cast from or to floats; nothing computes with it."""
    uses = [v for v in (*node.inputs, *node.outputs) if v is not None and v.dtype == ir.DataType.UINT8]
    if not uses or node.op_type in ("QuantizeLinear", "DequantizeLinear"):  # int8_rules says it better
        return None
    if node.op_type != "Cast":
        return f"computes with uint8 ('{uses[0].name}')", "cast to float32 first"
    others = [v for v in (*node.inputs, *node.outputs) if v is not None and v.dtype != ir.DataType.UINT8]
    if any(v.dtype is not None and v.dtype not in FLOATS[:2] for v in others):
        return "uint8 is converted from and to floats alone", "go by float32 (passes/labels_by_float.py)"
    return None


def _types(node: ir.Node, generation: str) -> tuple[str, str] | None:
    for value in node.outputs:
        bf16 = value.dtype == ir.DataType.BFLOAT16 and generation not in EIGHT
        if value.dtype is not None and value.dtype not in TYPES and not bf16:
            return f"gives {value.dtype.name.lower()} ('{value.name}')", "compute in float32 or int32"
    whole = [v for v in node.inputs if v is not None and v.dtype in (ir.DataType.INT32, ir.DataType.INT64)]
    if node.op_type in ("PRelu", "MatMul", "Sigmoid", "Softmax") and whole and generation in EIGHT:
        return f"computes with integers ('{whole[0].name}')", "cast to float32 first"
    return None


def _wide_integers(node: ir.Node, generation: str) -> tuple[str, str] | None:
    """TensorRT 8 has no int64: constants are cut to 32 bits. Slice's "to the end" may be cut."""
    for i, value in enumerate(node.inputs):
        found = array(value) if value is not None and value.dtype == ir.DataType.INT64 else None
        if generation in EIGHT and found is not None and found.size and not (node.op_type == "Slice" and i == 2):
            info = np.iinfo(np.int32)
            if found.min() < info.min or found.max() > info.max:
                return f"constant '{value.name if value else ''}' is beyond int32", "keep integers within 32 bits"
    return None


def _resize(node: ir.Node, generation: str) -> tuple[str, str] | None:
    if node.op_type != "Resize":
        return None
    form = attribute(node, "coordinate_transformation_mode", "half_pixel")
    if form not in RESIZE_FORMS:
        return f"coordinate_transformation_mode {form}", f"use one of {', '.join(RESIZE_FORMS)}"
    if attribute(node, "antialias", 0):
        return "antialiasing", "resize without it, or average first"
    if attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        return "an aspect ratio policy other than stretch", "give the sizes themselves"
    return None


def _pad(node: ir.Node, generation: str) -> tuple[str, str] | None:
    if node.op_type != "Pad":
        return None
    if (mode := attribute(node, "mode", "constant")) not in ("constant", "reflect", "edge"):
        return f"mode {mode}", "pad by Concat of slices"
    if generation in EIGHT and len(node.inputs) > 3 and node.inputs[3] is not None:
        return "axes as an input", "lower the opset (passes/opset17.py)"
    return None


def _constants(node: ir.Node, generation: str) -> tuple[str, str] | None:
    for i in CONSTANT_INPUTS.get(node.op_type, ()):
        value = node.inputs[i] if i < len(node.inputs) else None
        if value is not None and array(value) is None:
            return f"input '{value.name}' is computed", "make it a constant"
    return None


RULES: tuple[Rule, ...] = (_known, _pool, _uint8, _types, _wide_integers, _resize, _pad, _constants)
