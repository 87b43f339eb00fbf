"""The layers that serve some outputs of a graph and nothing else."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from edgeseg.export.quantize.plan import Plan


def layers_of(model: ir.Model, outputs: Collection[str]) -> list[str]:
    """The layers of the clean float ``model`` from which only ``outputs`` are reached, in the graph's order."""
    wanted, reached = set(outputs), dict[ir.Node, set[str]]()
    for node in reversed(list(model.graph)):
        found = {str(o.name) for o in node.outputs if o.is_graph_output()}
        reached[node] = found.union(*(reached[use.node] for o in node.outputs for use in o.uses()))
    layers = Plan(model).layers()
    return [name for name, nodes in layers.items() if all(reached[n] and reached[n] <= wanted for n in nodes)]
