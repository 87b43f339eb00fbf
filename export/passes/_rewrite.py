"""The few things every rewrite does: build nodes, read constants and attributes, swap values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import (
    IdentityEliminationPass,
    RemoveUnusedNodesPass,
    ShapeInferencePass,
    TopologicalSortPass,
)

from edgeseg.errors import InputError


class Rewriter:
    """Appends nodes to ``graph``; call ``finish`` when done to sort, clean and infer shapes."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.graph = model.graph
        self._names = {v.name for n in self.graph for v in n.outputs} | set(self.graph.initializers)

    def op(self, kind: str, inputs: Sequence[ir.Value | None], name: str, **attributes: Any) -> ir.Value:
        """A node of one output called ``name`` (made unique)."""
        node = ir.node(kind, list(inputs), attributes=attributes)
        node.outputs[0].name = node.name = self._unique(name)
        self.graph.append(node)
        return node.outputs[0]

    def const(self, array: NDArray[Any] | np.generic, name: str) -> ir.Value:
        """An initializer called ``name`` (made unique)."""
        name = self._unique(name)
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, const_value=tensor)
        value.shape, value.dtype = ir.Shape(array.shape), tensor.dtype
        self.graph.register_initializer(value)
        return value

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Every use of ``old``, as a graph output too, becomes ``new``; an output keeps its name."""
        if old in self.graph.outputs:
            old.name, new.name = f"{old.name}_before", old.name
            for i, output in enumerate(self.graph.outputs):
                if output is old:
                    self.graph.outputs[i] = new
        old.replace_all_uses_with(new)
        if new.shape is None:
            new.shape, new.type = old.shape, old.type

    def finish(self) -> None:
        clean(self.model)

    def _unique(self, name: str) -> str:
        candidate, i = name, 0
        while candidate in self._names:
            i += 1
            candidate = f"{name}_{i}"
        self._names.add(candidate)
        return candidate


def clean(model: ir.Model) -> None:
    """Sort, drop what nothing uses, and infer every shape anew."""
    for each in (
        TopologicalSortPass(),
        IdentityEliminationPass(),
        RemoveUnusedNodesPass(),
        ShapeInferencePass(),
    ):
        each(model)


def array(value: ir.Value | None) -> NDArray[Any] | None:
    """The constant that ``value`` is, or None."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tensor.numpy()


def shape(value: ir.Value) -> tuple[int, ...]:
    """The static shape of ``value``; InputError where it has a dynamic dimension."""
    if value.shape is None or not all(isinstance(d, int) for d in value.shape):
        raise InputError(f"tensor '{value.name}' has no static shape: {value.shape}; export with fixed sizes")
    return tuple(int(d) for d in value.shape)  # type: ignore[arg-type]


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """Attribute ``name`` of ``node``, or ``default``."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def sole_user(value: ir.Value) -> ir.Node | None:
    """The one node that reads ``value``, or None where several or the graph's outputs do."""
    users = list(value.uses())
    return users[0].node if len(users) == 1 and not value.is_graph_output() else None


def floats(*values: Any) -> NDArray[np.float32]:
    """``values`` as a float32 vector."""
    return np.array(values, np.float32)
