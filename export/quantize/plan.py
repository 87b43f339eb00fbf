"""Which tensors of a clean float graph carry an int8 scale, and which of them share one.

A *point* is a tensor that a computation writes for others to read: the normalised frame, a convolution with
its activation, a sum, a SiLU (x · sigmoid(x)), a resized map. A *layer* is that computation, called by its point's
name. Data movement (slices, pooling, selection, interleaving) keeps its input's scale; where it joins tensors (Concat,
Where) they share one, but for a tensor that other layers read too and whose range is much smaller: that keeps its own
scale there, and is requantized on its way into the join. What is multiplied by one positive constant keeps its steps.
The integer arithmetic of pooling indices carries no scale.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import onnx_ir as ir

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, attribute, sole_user

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
COMPUTE = (*WEIGHTED, "Add", "Sub", "Mul", "Div", "AveragePool", "GlobalAveragePool", "ReduceMean", "Softmax")
ACTIVATIONS = ("Relu", "PRelu", "LeakyRelu", "Clip", "Sigmoid", "HardSwish", "HardSigmoid", "Tanh")
MOVES = (
    "MaxPool", "Slice", "Pad", "Concat", "Where", "Max", "DepthToSpace", "SpaceToDepth", "Transpose",
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Resize", "Gather", "Split", "Expand",
)  # fmt: skip
INPUT = "frame_normalised"
APART = 1.5  # ranges that differ by more than this do not share a scale where they need not


class Plan:
    """``points``: tensors to quantize. ``root[name]``: the representative whose scale ``name`` carries.
    ``inner``: tensors between a computation and its activation, which some targets need a range for.
    ``entries``: (join, input) where a tensor of its own scale is requantized to the join's.

    ``ranges``: absolute maximum by point; without them every join is one scale. ``keep``: layers that stay in float.
    A scale of which no layer in int8 writes or reads a tensor is not ``used``."""

    def __init__(self, model: ir.Model, ranges: Mapping[str, float] | None = None, keep: Collection[str] = ()) -> None:
        self.points: list[ir.Value] = []
        self._pointed = set[ir.Value]()
        self.inner: list[ir.Value] = []
        self.root: dict[str, str] = {}
        self.entries: list[tuple[ir.Node, int]] = []
        self._layer: dict[ir.Node, str] = {}
        self._ranges, self._keep = ranges, frozenset(keep)
        self._span: dict[str, float] = {}  # by representative: the largest range of what shares its scale
        before = True
        for node in model.graph:
            if before:  # normalisation of the frame stays in float
                before = node.outputs[0].name != INPUT
                if not before:
                    self._point(node.outputs[0])
                continue
            self._visit(node)
        if unknown := sorted(self._keep - set(self._layer.values())):
            raise InputError(f"no layer '{unknown[0]}' to keep in float: layers are called by their output tensors")
        self._scale_products()
        self._used = self._find_used()

    def layers(self) -> dict[str, list[ir.Node]]:
        """The computations of each layer, in the graph's order."""
        found: dict[str, list[ir.Node]] = {}
        for node, name in self._layer.items():
            found.setdefault(name, []).append(node)
        return found

    def scale_of(self, value: ir.Value | None) -> str | None:
        """The name of the point whose scale ``value`` carries, or None where it carries none."""
        if value is None or value.name not in self.root:
            return None
        name = str(value.name)
        while self.root[name] != name:
            name = self.root[name]
        return name

    def sources(self, value: ir.Value | None) -> Iterator[str]:
        """The points that were moved into ``value``, by name."""
        left, seen = [value], set[ir.Value]()
        while left:
            each = left.pop()
            if each is None or each in seen or self.scale_of(each) is None:
                continue
            seen.add(each)
            if each in self._pointed:
                yield str(each.name)
            elif (node := each.producer()) is not None:
                left.extend(node.inputs)

    def used(self, value: ir.Value | None) -> bool:
        """Whether ``value`` carries a scale that a layer in int8 writes or reads."""
        return self.scale_of(value) in self._used

    def in_float(self, node: ir.Node) -> bool:
        """Whether ``node`` is of a layer that is kept in float."""
        return self._layer.get(node) in self._keep

    def group(self) -> dict[str, list[str]]:
        """Points by the representative of their scale."""
        groups: dict[str, list[str]] = {}
        for point in self.points:
            groups.setdefault(str(self.scale_of(point)), []).append(str(point.name))
        return groups

    def range_of(self, root: str) -> float:
        """The absolute maximum of what shares the scale of ``root``; for a plan with ranges."""
        return self._span[root]

    def _visit(self, node: ir.Node) -> None:
        output = node.outputs[0]
        if output.dtype != ir.DataType.FLOAT:
            return
        gated = silu(node)
        if gated is not None:
            self._layer[node] = _layer_name(gated)
        elif node.op_type in COMPUTE or (node.op_type == "Resize" and attribute(node, "mode", "nearest") != "nearest"):
            self._layer[node] = _layer_name(node)
            if self._layer[node] == output.name:
                self._point(output)
            else:
                self.inner.append(output)
        elif node.op_type in ACTIVATIONS:
            self._point(output)
            self._layer[node] = str(output.name)
        elif node.op_type in MOVES:
            self._move(node)
        else:
            raise InputError(
                f"int8: operator {node.op_type} ('{output.name}') has no quantization rule; build fp32 or fp16"
            )

    def _point(self, value: ir.Value) -> None:
        name = str(value.name)
        self.points.append(value)
        self._pointed.add(value)
        self.root[name] = name
        if self._ranges is not None:
            self._span[name] = self._ranges[name]

    def _move(self, node: ir.Node) -> None:
        read = [(i, v) for i, v in enumerate(node.inputs) if array(v) is None and self.scale_of(v) is not None]
        if not read:
            return
        widest = self._widest([str(self.scale_of(v)) for _, v in read])
        for i, value in read:
            root = str(self.scale_of(value))
            if root != widest and self._stays_apart(value, root, widest):
                self.entries.append((node, i))
            else:
                self.root[root] = widest
        for output in node.outputs:
            self.root[str(output.name)] = widest

    def _scale_products(self) -> None:
        """Of those that share no other tensor's scale."""
        alone = {members[0] for members in self.group().values() if len(members) == 1}
        for node in self._layer:
            factor = factor_of(node) if self._ranges is not None else None
            name, source = str(node.outputs[0].name), self.scale_of(node.inputs[0])
            if factor is not None and source is not None and name in alone and self.root[name] == name:
                self._span[name] = factor * self.range_of(source)

    def _widest(self, roots: list[str]) -> str:
        return roots[0] if self._ranges is None else max(roots, key=self.range_of)

    def _stays_apart(self, value: ir.Value | None, root: str, widest: str) -> bool:
        if self._ranges is None or self.range_of(root) * APART > self.range_of(widest):
            return False
        while value is not None and value.name != root and sole_user(value) is not None:
            producer = value.producer()
            value = producer.inputs[0] if producer is not None and producer.op_type in MOVES else None
        return value is not None and sole_user(value) is None

    def _find_used(self) -> set[str]:
        used: set[str] = set()
        for node in self._layer:
            if not self.in_float(node):
                used |= {str(self.scale_of(v)) for v in (*node.inputs, *node.outputs) if self.scale_of(v) is not None}
        return used


def silu(node: ir.Node) -> ir.Node | None:
    """The product that makes a SiLU, x · sigmoid(x), of the Sigmoid ``node`` (arXiv:1702.03118, eq. 1)."""
    user = sole_user(node.outputs[0])
    gates = node.op_type == "Sigmoid" and user is not None and user.op_type == "Mul" and node.inputs[0] in user.inputs
    return user if gates else None


def factor_of(node: ir.Node) -> float | None:
    """What ``node`` multiplies all of its first input by: one positive constant, or None."""
    factor = array(node.inputs[1]) if node.op_type == "Mul" else None
    return float(factor.item()) if factor is not None and factor.size == 1 and factor.item() > 0 else None


def _layer_name(node: ir.Node) -> str:
    """What ``node`` and an activation that it alone feeds write."""
    user = sole_user(node.outputs[0])
    return str((user if user is not None and user.op_type in ACTIVATIONS else node).outputs[0].name)
