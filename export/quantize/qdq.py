"""Writes the scales into the graph: QuantizeLinear/DequantizeLinear as every target can take them.

int8 throughout, zero points 0, weights per output channel, biases in float; a pair behind every point, and
one before every computation whose input was only moved since its last pair (the same scale, so it changes
nothing, but engines look for it there). In the model's metadata go along the ranges, under ``RANGES``, and the outputs
of the computations that stay in float on request, under ``KEPT``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.export.passes._rewrite import Rewriter, array, attribute
from edgeseg.export.quantize.bias import Mean, is_convolution, shift
from edgeseg.export.quantize.calibrate import Calibration
from edgeseg.export.quantize.histogram import LEVELS
from edgeseg.export.quantize.plan import COMPUTE, MOVES, WEIGHTED, Plan

RANGES = "edgeseg.ranges"
KEPT = "edgeseg.kept"


def quantize(
    model: ir.Model,
    calibration: Calibration,
    weight_levels: int = LEVELS,
    keep: Collection[str] = (),
    means: Mapping[str, Mean] | None = None,
) -> ir.Model:
    """A Q/DQ copy of the clean float ``model``. Weights take ``-weight_levels … weight_levels``: 127, or 64
    for CPUs whose int8 kernels saturate on more. ``keep`` are layers that stay in float, by their output tensors.
    ``means``, as ``input_means`` gives them, correct the biases of what reads those tensors.

    Raises:
        InputError: a layer to keep that is none, or an operator without a quantization rule.
    """
    model = model.clone()
    plan = Plan(model, calibration.ranges, keep)
    r = Rewriter(model)
    scales = {root: (plan.range_of(root) or 1.0) / LEVELS for root in plan.group()}  # zeros take any scale
    read = {node: str(node.inputs[0].name) for node in model.graph if is_convolution(node)}  # type: ignore[union-attr]
    computations = [n for n in model.graph if n.op_type in COMPUTE and _quantized_inputs(plan, n)]
    exact = _exact(plan, model)
    joins = [n for n in model.graph if n.op_type in MOVES and n.outputs[0] not in exact and plan.used(n.outputs[0])]
    entries = [(n, i, str(plan.scale_of(n.outputs[0]))) for n, i in plan.entries if n in joins]
    pairs: dict[str, ir.Value] = {}
    for point in plan.points:
        if not plan.used(point):
            continue
        uses = [use for use in point.uses() if not (point in exact and _takes_exact(plan, exact, use.node))]
        pairs[str(point.name)] = _pair(r, point, scales[str(plan.scale_of(point))])
        _redirect(model, point, uses, pairs[str(point.name)])
    for node in (*joins, *computations):
        for i in _quantized_inputs(plan, node):  # points were redirected: what is left was moved since its pair
            moved = node.inputs[i]
            assert moved is not None
            if node in computations or moved in exact:
                key = str(moved.name)
                if key not in pairs:
                    pairs[key] = _pair(r, moved, scales[str(plan.scale_of(moved))])
                node.replace_input_with(i, pairs[key])
        if node in computations and node.op_type in WEIGHTED:
            _weights(r, node, weight_levels, (means or {}).get(read.get(node, "")))
    for node, i, root in entries:
        value = node.inputs[i]
        assert value is not None
        node.replace_input_with(i, _pair(r, value, scales[root]))
    model.metadata_props[RANGES] = json.dumps(calibration.ranges, sort_keys=True)
    model.metadata_props[KEPT] = json.dumps([str(n.outputs[0].name) for n in model.graph if plan.in_float(n)])
    r.finish()
    return model


def _exact(plan: Plan, model: ir.Model) -> set[ir.Value]:
    """What layers in float write, as far as it is only moved."""
    found = set[ir.Value]()
    for node in model.graph:
        scaled = [v for v in node.inputs if plan.scale_of(v) is not None]
        if plan.in_float(node) or (node.op_type in MOVES and scaled and all(v in found for v in scaled)):
            found.update(node.outputs)
    return found


def _takes_exact(plan: Plan, exact: set[ir.Value], node: ir.Node) -> bool:
    """Whether ``node`` is part of a layer in float, moves no other values than exact ones, or compares."""
    return plan.in_float(node) or node.outputs[0] in exact or node.outputs[0].dtype != ir.DataType.FLOAT


def _quantized_inputs(plan: Plan, node: ir.Node) -> list[int]:
    """None of a layer that is kept in float."""
    return [] if plan.in_float(node) else [i for i, v in enumerate(node.inputs) if plan.scale_of(v) is not None]


def _pair(r: Rewriter, value: ir.Value, scale: float) -> ir.Value:
    step = r.const(np.float32(scale), f"{value.name}_scale")
    zero = r.const(np.int8(0), f"{value.name}_zero")
    q = r.op("QuantizeLinear", [value, step, zero], f"{value.name}_q")
    q.shape, q.dtype = value.shape, ir.DataType.INT8
    dq = r.op("DequantizeLinear", [q, step, zero], f"{value.name}_dq")
    dq.shape, dq.dtype = value.shape, ir.DataType.FLOAT
    return dq


def _redirect(model: ir.Model, value: ir.Value, uses: Sequence[Any], pair: ir.Value) -> None:
    for use in uses:
        use.node.replace_input_with(use.idx, pair)
    for i, output in enumerate(model.graph.outputs):
        if output is value:
            value.name, pair.name = f"{value.name}_float", value.name
            model.graph.outputs[i] = pair


def _weights(r: Rewriter, node: ir.Node, levels: int, mean: Mean | None) -> None:
    weight = node.inputs[1]
    values = array(weight)
    if values is None or weight is None:
        return
    axis = _channel_axis(node, values)
    others = tuple(a for a in range(values.ndim) if a != axis)
    scale = np.maximum(np.abs(values).max(others), 1e-12).astype(np.float32) / np.float32(levels)
    along = scale.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    steps: NDArray[np.int8] = np.clip(np.round(values / along), -levels, levels).astype(np.int8)
    inputs = [r.const(steps, f"{weight.name}_int8"), r.const(scale, f"{weight.name}_scale")]
    inputs.append(r.const(np.zeros(len(scale), np.int8), f"{weight.name}_zero"))
    node.replace_input_with(1, r.op("DequantizeLinear", inputs, f"{weight.name}_dq", axis=axis))
    if mean is not None:
        _add_bias(r, node, shift(node, values, steps * along, mean))


def _add_bias(r: Rewriter, node: ir.Node, more: NDArray[np.float32]) -> None:
    bias = array(node.inputs[2]) if len(node.inputs) > 2 else None
    node.resize_inputs(3)
    total = more if bias is None else bias + more
    node.replace_input_with(2, r.const(total.astype(np.float32), f"{node.outputs[0].name}_bias"))


def _channel_axis(node: ir.Node, values: NDArray[np.float32]) -> int:
    if node.op_type == "ConvTranspose":
        return 1
    return values.ndim - 1 if node.op_type == "MatMul" or not attribute(node, "transB", 1) else 0
