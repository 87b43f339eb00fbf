"""What a layer costs: work in any precision, noise in int8."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgeseg.export.passes._rewrite import array, shape
from edgeseg.export.quantize.plan import WEIGHTED


@dataclass(frozen=True)
class Layer:
    """``name``: its output tensor's, as in the manifest's ``float_layers``. ``work``: its share of the network's
    multiply-adds and elementwise operations, 0 to 1. ``noise``: power relative to the answer's, summed over outputs."""

    name: str
    operators: str
    work: float
    noise: float

    @property
    def db(self) -> float:
        """The answer's SQNR where this layer alone is in int8."""
        return math.inf if self.noise == 0 else -10 * math.log10(self.noise)


def works(layers: Mapping[str, Sequence[ir.Node]]) -> dict[str, float]:
    """The share of the work of each of the ``layers`` of a network."""
    each = {name: sum(map(operations, nodes)) for name, nodes in layers.items()}
    total = sum(each.values())
    return {name: work / total for name, work in each.items()}


def operations(node: ir.Node) -> int:
    """Multiply-adds; of what has no weights, its output's elements."""
    out = math.prod(shape(node.outputs[0]))
    weights = array(node.inputs[1]) if node.op_type in WEIGHTED else None
    if weights is None:
        return out
    if node.op_type == "ConvTranspose":
        source = node.inputs[0]
        assert source is not None
        return int(math.prod(shape(source)) * weights[0].size)
    taps: int = weights[..., 0].size if node.op_type in ("MatMul", "Gemm") else weights[0].size
    return out * taps
