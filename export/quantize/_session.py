"""The float graph, asked for tensors between its ends, in bounded memory.

The graph is cut into parts that are run one after the other, each once for a frame: no more than ``MOST`` bytes of the
tensors asked for, or one tensor, are alive at a time, beside what later parts read.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

MOST = 64 << 20


class Observed:
    """``run`` gives the tensors ``names`` of ``model``, in the graph's order."""

    def __init__(self, model: ir.Model, names: Collection[str], most: int = MOST) -> None:
        self._names = frozenset(names)
        groups = list(_groups(model, self._names, most))
        last = {v.name: i for i, nodes in enumerate(groups) for node in nodes for v in node.inputs if v is not None}
        self._parts = [_Part(model, nodes, self._names, i, last) for i, nodes in enumerate(groups)]
        self._last = last

    def run(self, frame: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[Any]]]:
        """(name, values) for a ``frame`` uint8 H×W×3. What is not kept by the caller is freed as it goes."""
        alive: dict[str, NDArray[Any]] = {"frame": frame[None]}
        for i, part in enumerate(self._parts):
            found = part.run(alive)
            alive = {name: values for name, values in alive.items() if self._last.get(name, -1) > i}
            while found:
                name, values = _first(found)
                if self._last.get(name, -1) > i:
                    alive[name] = values
                if name in self._names:
                    yield name, values


def _first(found: dict[str, NDArray[Any]]) -> tuple[str, NDArray[Any]]:
    name = next(iter(found))
    return name, found.pop(name)


class _Part:
    def __init__(
        self, model: ir.Model, nodes: list[ir.Node], names: frozenset[str], place: int, last: dict[str | None, int]
    ) -> None:
        written = [v for node in nodes for v in node.outputs]
        inside = set(written)
        read = dict.fromkeys(v for node in nodes for v in node.inputs if v is not None and v not in inside)
        self._inputs = [str(v.name) for v in read if not v.is_initializer()]
        self._outputs = [str(v.name) for v in written if v.name in names or last.get(v.name, -1) > place]
        graph = onnx.GraphProto(
            name="part",
            node=[ir.serde.serialize_node(node) for node in nodes],
            initializer=[_constant(v) for v in read if v.is_initializer()],
            input=[ir.serde.serialize_value(v) for v in read if not v.is_initializer()],
            output=[onnx.ValueInfoProto(name=name) for name in self._outputs],
        )
        proto = onnx.ModelProto(ir_version=model.ir_version, graph=graph)
        proto.opset_import.extend(onnx.helper.make_opsetid(k, v) for k, v in model.opset_imports.items())
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False  # which would keep each part's memory
        self._session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(self, alive: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        values = self._session.run(self._outputs, {name: alive[name] for name in self._inputs})
        return dict(zip(self._outputs, values, strict=True))


def _constant(value: ir.Value) -> onnx.TensorProto:
    assert value.const_value is not None
    proto = ir.serde.serialize_tensor(value.const_value)
    proto.name = str(value.name)
    return proto


def _groups(model: ir.Model, names: frozenset[str], most: int) -> Iterator[list[ir.Node]]:
    """The nodes as far as ``names`` are written, cut before more than ``most`` bytes of these come together."""
    group: list[ir.Node] = []
    size, left = 0, len(names)
    for node in model.graph:
        asked = [v for v in node.outputs if v.name in names]
        more = sum(map(bytes_of, asked))
        if asked and size and size + more > most:
            yield group
            group, size = [], 0
        group.append(node)
        size, left = size + more, left - len(asked)
        if not left:
            break
    if group:
        yield group


def bytes_of(value: ir.Value) -> int:
    """What ``value`` takes in memory; float32 where its type is not known."""
    sizes = [d for d in value.shape or () if isinstance(d, int)]
    return math.prod(sizes) * (4 if value.dtype is None else int(np.ceil(value.dtype.itemsize)))
