"""Which tensors of a clean float graph carry an int8 scale, and which of them share one.

A *point* is a tensor that a computation writes for others to read: the normalised frame, a convolution with
its activation, a sum, a resized map. Data movement (slices, pooling, selection, interleaving) keeps its
input's scale; where it joins tensors (Concat, Where) they share one. The integer arithmetic of pooling
indices carries none.
"""

from __future__ import annotations

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


class Plan:
    """``points``: tensors to quantize. ``root[name]``: the representative whose scale ``name`` carries.
    ``inner``: tensors between a computation and its activation, which some targets need a range for."""

    def __init__(self, model: ir.Model) -> None:
        self.points: list[ir.Value] = []
        self.inner: list[ir.Value] = []
        self.root: dict[str, str] = {}
        before = True
        for node in model.graph:
            if before:  # normalisation of the frame stays in float
                before = node.outputs[0].name != INPUT
                if not before:
                    self._point(node.outputs[0])
                continue
            self._visit(node)

    def scale_of(self, value: ir.Value | None) -> str | None:
        """The name of the point whose scale ``value`` carries, or None where it carries none."""
        if value is None or value.name not in self.root:
            return None
        name = str(value.name)
        while self.root[name] != name:
            name = self.root[name]
        return name

    def group(self) -> dict[str, list[str]]:
        """Points by the representative of their scale."""
        groups: dict[str, list[str]] = {}
        for point in self.points:
            groups.setdefault(str(self.scale_of(point)), []).append(str(point.name))
        return groups

    def _visit(self, node: ir.Node) -> None:
        output = node.outputs[0]
        if output.dtype != ir.DataType.FLOAT:
            return
        if node.op_type in COMPUTE or (node.op_type == "Resize" and attribute(node, "mode", "nearest") != "nearest"):
            user = sole_user(output)
            self._inner(output) if user is not None and user.op_type in ACTIVATIONS else self._point(output)
        elif node.op_type in ACTIVATIONS:
            self._point(output)
        elif node.op_type in MOVES:
            self._move(node)
        else:
            raise InputError(
                f"int8: operator {node.op_type} ('{output.name}') has no quantization rule; build fp32 or fp16"
            )

    def _point(self, value: ir.Value) -> None:
        self.points.append(value)
        self.root[str(value.name)] = str(value.name)

    def _inner(self, value: ir.Value) -> None:
        self.inner.append(value)

    def _move(self, node: ir.Node) -> None:
        roots = [self.scale_of(v) for v in node.inputs if v is not None and array(v) is None]
        carried = [r for r in roots if r is not None]
        if not carried:
            return
        for other in carried[1:]:
            self.root[other] = carried[0]
        for output in node.outputs:
            self.root[str(output.name)] = carried[0]
