"""Layers that cost less in float, between others that are in float, than what converting around them does."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgeseg.export.passes._rewrite import shape
from edgeseg.export.quantize.layer import operations
from edgeseg.export.quantize.plan import INPUT, WEIGHTED, Plan

SAVED = 0.5  # of a multiply-add's time, in int8
CONVERSION = 16  # multiply-adds take as long as one value from int8 to float or back
WHY = "costs less in float than converting for it does"
OUTSIDE = ""  # reads the graph's outputs, in float


def joined(model: ir.Model, keep: Collection[str]) -> list[str]:
    """The layers of the clean float ``model`` to be kept in float beside ``keep``: one after the other those whose
    tensors then cross between float and int8 so much less that it is worth it. They bring no noise either."""
    if not keep:
        return []
    graph, kept, more = _Flow(model), {*keep, INPUT, OUTSIDE}, list[str]()
    while found := [name for name in graph.layers if name not in kept and graph.gains(name, kept)]:
        more += found[:1]
        kept.add(found[0])
    return more


@dataclass(frozen=True)
class _Tensor:
    writer: str
    readers: frozenset[str]
    values: int

    def crosses(self, kept: Collection[str]) -> bool:
        """Whether it is written on one side and read on the other."""
        return any((reader in kept) != (self.writer in kept) for reader in self.readers)


class _Flow:
    """Which layer reads what another wrote, itself or moved."""

    def __init__(self, model: ir.Model) -> None:
        plan = Plan(model)
        self.layers: Mapping[str, Sequence[ir.Node]] = plan.layers()
        points = {str(point.name): point for point in plan.points}
        readers: dict[str, set[str]] = {name: set() for name in points}
        for name, nodes in self.layers.items():
            for value in (v for node in nodes for v in node.inputs):
                for source in plan.sources(value):
                    readers[source].add(name)
        for output in model.graph.outputs:
            for source in plan.sources(output):
                readers[source].add(OUTSIDE)
        self._touching: dict[str, list[_Tensor]] = {name: [] for name in (*points, OUTSIDE)}
        for name, point in points.items():
            tensor = _Tensor(name, frozenset(readers[name] - {name}), math.prod(shape(point)))
            for layer in {name, *tensor.readers}:
                self._touching[layer].append(tensor)

    def gains(self, name: str, kept: Collection[str]) -> bool:
        """Whether it saves time to keep the layer ``name`` in float too."""
        also = {*kept, name}
        fewer = sum(t.values * (t.crosses(kept) - t.crosses(also)) for t in self._touching[name])
        work = sum(operations(node) for node in self.layers[name] if node.op_type in WEIGHTED)
        return fewer * CONVERSION > work * SAVED
