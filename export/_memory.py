"""How much memory a TensorRT build of a graph will take: an estimate, so that a board can say no before it starts."""

from __future__ import annotations

import math

import onnx_ir as ir

# CUDA's context and TensorRT's libraries with their kernels, on the host and on the GPU, which share a Jetson's memory.
LIBRARIES = 768 << 20
# Weights: the file's, the parser's, the builder's on the device while it times kernels, and the plan's.
COPIES = 4
# Activations: of the engine as planned, and what a kernel is timed with.
BUFFERS = 2


def estimate(model: ir.Model) -> dict[str, int]:
    """Bytes by what they are for, without the workspace; activations at the widths that ``model`` states."""
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    return {"libraries": LIBRARIES, "weights": COPIES * weights, "activations": BUFFERS * _peak(model)}


def _peak(model: ir.Model) -> int:
    """The most bytes that are alive at once when the nodes run in order and each value goes with its last use."""
    last = {value: i for i, node in enumerate(model.graph) for value in node.inputs if value is not None}
    alive = sum(map(_bytes, model.graph.inputs))
    most = alive
    for i, node in enumerate(model.graph):
        alive += sum(map(_bytes, node.outputs))
        most = max(most, alive)
        done = {v for v in node.inputs if v is not None and last[v] == i and not v.is_initializer()}
        alive -= sum(_bytes(v) for v in done if not v.is_graph_output())
        alive -= sum(_bytes(v) for v in node.outputs if v not in last and not v.is_graph_output())
    return most


def _bytes(value: ir.Value) -> int:
    sizes = [d for d in value.shape or () if isinstance(d, int)]
    if value.shape is None or value.dtype is None or len(sizes) < len(value.shape):
        return 0
    return math.ceil(math.prod(sizes) * float(value.dtype.itemsize))
