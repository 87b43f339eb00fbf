"""Opset 17 and IR 8, the newest that TensorRT 8 reads: what opset 18 moved between attributes and inputs moves back.

A parser of TensorRT 8 does not refuse a newer opset: it overlooks, say, the axes of a ReduceMean, which it looks for
among the attributes, and reduces everything.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import Rewriter, array, attribute, shape

OPSET, IR = 17, 8


def apply(model: ir.Model) -> bool:
    """Raises InputError where a node says what opset 17 cannot."""
    opset = model.opset_imports.get("", OPSET)
    if opset <= OPSET and model.ir_version <= IR:
        return False
    rewriter = Rewriter(model)
    for node in [n for n in model.graph if n.domain == "" and opset > OPSET]:
        if node.op_type in LOWER:
            LOWER[node.op_type](rewriter, node)
        elif onnx.defs.get_schema(node.op_type, opset, "").since_version > OPSET:
            raise _beyond(node, "the operator")
    model.opset_imports[""] = min(opset, OPSET)
    model.ir_version = min(model.ir_version, IR)
    rewriter.finish()
    return True


def _reduce(r: Rewriter, node: ir.Node) -> None:
    axes = array(node.inputs[1]) if len(node.inputs) > 1 else None
    if axes is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        raise _beyond(node, "axes that are computed")
    if axes is None and attribute(node, "noop_with_empty_axes", 0):
        raise _beyond(node, "noop_with_empty_axes")
    node.attributes.pop("noop_with_empty_axes", None)
    node.resize_inputs(1)
    if axes is not None:
        node.attributes["axes"] = ir.AttrInt64s("axes", [int(a) for a in axes])


def _resize(r: Rewriter, node: ir.Node) -> None:
    for name, default in (("antialias", 0), ("keep_aspect_ratio_policy", "stretch"), ("axes", None)):
        if attribute(node, name, default) != default:
            raise _beyond(node, f"its {name}")
        node.attributes.pop(name, None)


def _pad(r: Rewriter, node: ir.Node) -> None:
    if attribute(node, "mode", "constant") == "wrap":
        raise _beyond(node, "mode wrap")
    if len(node.inputs) < 4:
        return
    if node.inputs[3] is not None:
        pads, axes = array(node.inputs[1]), array(node.inputs[3])
        assert node.inputs[0] is not None
        if pads is None or axes is None:
            raise _beyond(node, "axes that are computed")
        rank = len(shape(node.inputs[0]))
        full = np.zeros((2, rank), np.int64)
        full[:, axes] = pads.reshape(2, -1)
        node.replace_input_with(1, r.const(full.reshape(-1), f"{node.outputs[0].name}_pads"))
    node.resize_inputs(3)


def _split(r: Rewriter, node: ir.Node) -> None:
    parts = node.attributes.pop("num_outputs", None)
    if parts is None or (len(node.inputs) > 1 and node.inputs[1] is not None):
        return
    axis = attribute(node, "axis", 0)
    sizes = np.array([shape(output)[axis] for output in node.outputs], np.int64)
    node.resize_inputs(2)
    node.replace_input_with(1, r.const(sizes, f"{node.outputs[0].name}_sizes"))


def _scatter(r: Rewriter, node: ir.Node) -> None:
    if attribute(node, "reduction", "none") in ("max", "min"):
        raise _beyond(node, "its reduction")


def _beyond(node: ir.Node, what: str) -> InputError:
    return InputError(f"node '{node.name}' ({node.op_type}): {what} is beyond opset {OPSET}, the last of TensorRT 8")


_REDUCTIONS = "L1 L2 LogSum LogSumExp Max Mean Min Prod SumSquare"  # Sum had its axes moved in opset 13
LOWER: dict[str, Callable[[Rewriter, ir.Node], None]] = {
    **{f"Reduce{kind}": _reduce for kind in _REDUCTIONS.split()},
    "Resize": _resize,
    "Pad": _pad,
    "Split": _split,
    "ScatterElements": _scatter,
    "ScatterND": _scatter,
}
