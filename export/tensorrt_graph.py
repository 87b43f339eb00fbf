"""The graph as a generation of TensorRT wants it. Needs no TensorRT: a build ticket is made with it.

Where the builder has a flag for fp16 (until TensorRT 10), the graph stays in float32 and the nodes that would overflow
are marked in their names, by which the builder tells their layers; later the graph itself is in half precision.
"""

from __future__ import annotations

import json

import onnx_ir as ir

from edgeseg.export import half, preflight
from edgeseg.export.passes import labels_by_float, opset17, weights_by_pair
from edgeseg.export.passes._rewrite import array
from edgeseg.export.quantize.histogram import LEVELS
from edgeseg.export.quantize.plan import Plan, silu
from edgeseg.export.quantize.qdq import RANGES
from edgeseg.export.tensorrt import FLOAT_MARK

FLAGGED = ("8.5", "8.6", "10")  # the builder has FP16 and INT8 flags


def prepare(model: ir.Model, precision: str, generation: str) -> ir.Model:
    """A copy of ``model`` (Q/DQ for int8, but where a calibration cache carries the scales) that TensorRT of
    ``generation`` (edgeseg.export.preflight) takes.

    Raises:
        InputError: a node that it would refuse, with the mend.
    """
    model = model.clone()
    if precision == "fp16" or (precision == "int8" and generation in FLAGGED):
        _halve(model, in_graph=generation not in FLAGGED)
    labels_by_float.apply(model)
    if generation in preflight.EIGHT:
        weights_by_pair.apply(model)
        opset17.apply(model)
    preflight.refuse(model, generation)
    return model


def scales(graph: ir.Model, quantized: ir.Model) -> dict[str, float]:
    """What a calibration cache says: the scale of every tensor of the float ``graph`` that carries one in its Q/DQ
    form ``quantized``, also of those that are only moved, between a computation and its activation, and of a SiLU's
    sigmoid."""
    ranges = json.loads(quantized.metadata_props.get(RANGES, "{}"))
    plan, found = Plan(graph, ranges or None), _activation_scales(quantized)
    inner = {str(v.name): ranges[v.name] / LEVELS for v in plan.inner if ranges.get(v.name)}
    inner |= {str(n.outputs[0].name): 1 / LEVELS for n in graph.graph if silu(n) is not None}
    roots = {name: plan.scale_of(value) for name, value in _values(graph).items()}
    carried = {name: found[root] for name, root in roots.items() if root in found}
    return {**inner, **carried}


def _halve(model: ir.Model, in_graph: bool) -> None:
    (frame,) = model.graph.inputs
    keep = half.overflowing(model, half.frames(tuple(int(d) for d in frame.shape or ())))  # type: ignore[arg-type]
    if in_graph:
        half.apply(model, keep)
        return
    for node in model.graph:
        if node.name in keep:
            node.name = f"{node.name}{FLOAT_MARK}"


def _activation_scales(quantized: ir.Model) -> dict[str, float]:
    """By the name that the tensor has in the float graph."""
    found = {}
    for node in quantized.graph:
        source = node.inputs[0] if node.op_type == "QuantizeLinear" else None
        scale = array(node.inputs[1]) if source is not None and array(source) is None else None
        if source is not None and scale is not None:
            pairs = [use.node.outputs[0] for use in node.outputs[0].uses()]
            outputs = [str(pair.name) for pair in pairs if pair.is_graph_output()]
            found[outputs[0] if outputs else str(source.name)] = float(scale.flat[0])
    return found


def _values(graph: ir.Model) -> dict[str, ir.Value]:
    return {str(value.name): value for node in graph.graph for value in node.outputs}


def to_bytes(model: ir.Model) -> bytes:
    """``model`` as ONNX, the same bytes every time."""
    content: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return content
