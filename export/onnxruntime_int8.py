"""Q/DQ → the integer operators of ONNX Runtime's CPU kernels.

ONNX Runtime itself fuses the pairs around a convolution only where the bias is int32 and the convolution writes to the
pair (onnxruntime/core/optimizer/qdq_transformer). In our graph biases are in float and an activation stands between,
so most convolutions would run in float. Here the operators are written out.

What is computed stays the same but for the bias's rounding to int32. Rounding keeps order: with q(x) for x rounded to a
pair's scale, q(relu(x)) = max(q(x), q(0)), and for slopes up to 1 q(prelu(x)) = max(q(x), q(slope · x)), the second by
the convolution again, with the slopes in its weights' scales. Behind a sum the slopes multiply its uint8 form, which
rounds once more. Pairs around what has no rule here stay.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.export._qlinear import Kernel, Operators, Stored, rounded
from edgeseg.export.passes._rewrite import Rewriter, array, attribute, floats, shape, sole_user
from edgeseg.export.quantize.histogram import LEVELS
from edgeseg.export.quantize.plan import factor_of, silu
from edgeseg.export.quantize.qdq import RANGES

Q, DQ = "QuantizeLinear", "DequantizeLinear"
MOVES = ("MaxPool", "Slice", "Pad", "Concat", "Where", "Max", "DepthToSpace", "SpaceToDepth", "Transpose", "Reshape",
         "Flatten", "Squeeze", "Unsqueeze", "Resize", "Gather", "Expand")  # fmt: skip
POOLED = ("QLinearConv", "Clip")  # behind these channels are innermost, where pooling uint8 is fast


def lower(model: ir.Model) -> None:
    """Rewrite ``model`` (Q/DQ) with integer operators where ONNX Runtime has them. What lies in float between pairs of
    other operators, or was kept in float, stays."""
    r = Rewriter(model)
    lowering = _Lowering(Operators(r), json.loads(model.metadata_props.get(RANGES, "{}")))
    for node in [n for n in model.graph if n.op_type == DQ]:
        quantize, scale = node.inputs[0].producer() if node.inputs[0] is not None else None, array(node.inputs[1])
        if quantize is None or quantize.op_type != Q or scale is None or scale.size != 1 or not quantize.inputs[0]:
            continue  # weights
        step = float(scale.item())
        inputs = [lowering.store(quantize.inputs[0], step), *lowering.ops.grid(step)]
        r.replace(node.outputs[0], r.op(DQ, inputs, f"{node.outputs[0].name}_real"))
    r.finish()


class _Lowering:
    """``store`` makes a pair's uint8 value, from those of the pairs before it where a rule says how. A rule gets the
    node that writes the float value and the scale to store it with, and gives None where it does not apply."""

    def __init__(self, ops: Operators, ranges: dict[str, float]) -> None:
        self.ops, self._ranges = ops, ranges
        self._known: dict[tuple[ir.Value, float], ir.Value] = {}
        self._rules: dict[str, Callable[[ir.Node, float], ir.Value | None]] = {
            "Conv": self._conv, "Relu": self._clip, "Clip": self._clip, "PRelu": self._prelu, "LeakyRelu": self._prelu,
            "Sigmoid": self._sigmoid, "Add": self._binary, "Mul": self._mul, "ReduceMean": self._mean,
            "GlobalAveragePool": self._mean, **dict.fromkeys(MOVES, self._move),
        }  # fmt: skip

    def store(self, x: ir.Value, scale: float) -> ir.Value:
        """``x`` as uint8 of ``scale``: by integers, or else rounded."""
        key = (x, scale)
        if key not in self._known:
            self._known[key] = self._made(x, scale) or self.ops.plain(Q, [x, *self.ops.grid(scale)], x)
        return self._known[key]

    def _made(self, x: ir.Value, scale: float) -> ir.Value | None:
        found = self._read(x)
        if found is not None and found.scale == scale:
            return found.value
        node = x.producer()
        shared = sole_user(x) is None and any(use.node.op_type != Q for use in x.uses())
        if node is None or x.is_graph_output() or shared:  # what others read in float is computed in float
            return None
        rule = self._rules.get(node.op_type)
        return rule(node, scale) if rule else None

    @staticmethod
    def _read(value: ir.Value | None) -> Stored | None:
        """What ``value`` is dequantized from."""
        node = value.producer() if value is not None else None
        if node is None or node.op_type != DQ or node.inputs[0] is None or node.inputs[0].dtype != ir.DataType.UINT8:
            return None
        return Stored(node.inputs[0], float(np.asarray(array(node.inputs[1])).item()))

    def _conv(self, node: ir.Node, scale: float, slopes: NDArray[np.float32] | None = None) -> ir.Value | None:
        x, kernel = self._read(node.inputs[0]), Kernel.of(node)
        if x is None or kernel is None:
            return None
        kernel = kernel if slopes is None else kernel.times(slopes)
        return self.ops.conv(x, kernel, scale, node.outputs[0], **_attributes(node))

    def _clip(self, node: ir.Node, scale: float) -> ir.Value | None:
        x, *given = node.inputs if node.op_type == "Clip" else [node.inputs[0], None]
        bounds = [np.float32(0)] if node.op_type == "Relu" else [array(value) for value in given]
        if any(b is None and v is not None for b, v in zip(bounds, given, strict=True)):
            return None
        inner = self._made(x, scale) if x is not None else None
        if inner is None:
            return None
        limits = [None if b is None else self.ops.r.const(rounded(np.asarray(b), scale), "bound") for b in bounds]
        return self.ops.plain("Clip", [inner, *limits], node.outputs[0])

    def _prelu(self, node: ir.Node, scale: float) -> ir.Value | None:
        x = node.inputs[0]
        slopes = floats(attribute(node, "alpha", 0.01)) if node.op_type == "LeakyRelu" else array(node.inputs[1])
        inner = x.producer() if x is not None else None
        if slopes is None or slopes.max() > 1 or inner is None or x is None or sole_user(x) is None:
            return None
        if inner.op_type == "Conv":
            parts = [self._conv(inner, scale), self._conv(inner, scale, slopes)]
        else:
            parts = [self._made(x, scale), self._sloped(x, scale, slopes)] if inner.op_type == "Add" else [None]
        return None if None in parts else self.ops.plain("Max", parts, node.outputs[0])

    def _sloped(self, x: ir.Value, scale: float, slopes: NDArray[np.float32]) -> ir.Value | None:
        """A sum has no weights to take slopes: it is multiplied by them, stored by its own range where that is wider
        than the activation's."""
        amax, sizes = self._ranges.get(str(x.name)), shape(x)
        if amax is None or len(sizes) != 4 or slopes.size not in (1, sizes[1]):
            return None
        own = max(scale, amax / LEVELS)
        inner = self._made(x, own)
        if inner is None:
            return None
        step = float(np.abs(slopes).max() or 1) / LEVELS
        factors = Stored(self.ops.r.const(rounded(slopes, step), f"{x.name}_slopes"), step)
        return self.ops.contrib("QLinearMul", [Stored(inner, own), factors], scale, x)

    def _sigmoid(self, node: ir.Node, scale: float) -> ir.Value | None:
        x = self._read(node.inputs[0]) or self._between(node.inputs[0])
        return None if x is None else self.ops.contrib("QLinearSigmoid", [x], scale, node.outputs[0])

    def _between(self, x: ir.Value | None) -> Stored | None:
        """What a convolution writes for its activation alone, stored by its own range."""
        amax = self._ranges.get(str(x.name)) if x is not None and sole_user(x) is not None else None
        if x is None or not amax:
            return None
        inner = self._made(x, amax / LEVELS)
        return None if inner is None else Stored(inner, amax / LEVELS)

    def _binary(self, node: ir.Node, scale: float) -> ir.Value | None:
        a, b = (self._read(v) or self._gate(v) for v in node.inputs)
        return self.ops.contrib(f"QLinear{node.op_type}", [a, b], scale, node.outputs[0]) if a and b else None

    def _mul(self, node: ir.Node, scale: float) -> ir.Value | None:
        """A product with a positive constant is the same steps of another size. Where another is asked for, a LeakyRelu
        of slope 1 looks them up."""
        x, factor = self._read(node.inputs[0]), factor_of(node)
        if array(node.inputs[1]) is None:
            return self._binary(node, scale)
        if x is None or factor is None or shape(x.value) != shape(node.outputs[0]):
            return None
        scaled = Stored(x.value, x.scale * factor)
        if np.isclose(scaled.scale, scale, rtol=1e-6):
            return x.value
        return self.ops.contrib("QLinearLeakyRelu", [scaled], scale, node.outputs[0], alpha=1.0)

    def _gate(self, value: ir.Value | None) -> Stored | None:
        """A SiLU's sigmoid, rounded here alone: in 255 steps, half of what a pair would have."""
        node = value.producer() if value is not None else None
        x = self._read(node.inputs[0]) if node is not None and silu(node) is not None else None
        if x is None or value is None:
            return None
        return Stored(self.ops.contrib("QLinearSigmoid", [x], 1 / 255, value, zero=0), 1 / 255, 0)

    def _mean(self, node: ir.Node, scale: float) -> ir.Value | None:
        x = self._read(node.inputs[0])
        axes = array(node.inputs[1]) if node.op_type == "ReduceMean" and len(node.inputs) > 1 else np.array([2, 3])
        if x is None or len(shape(x.value)) != 4 or axes is None or not attribute(node, "keepdims", 1):
            return None
        if sorted(axes % 4) != [2, 3]:
            return None
        return self.ops.contrib("QLinearGlobalAveragePool", [x], scale, node.outputs[0], channels_last=0)

    def _move(self, node: ir.Node, scale: float) -> ir.Value | None:
        if len(node.outputs) > 1 or (node.op_type == "Resize" and attribute(node, "mode", "nearest") != "nearest"):
            return None
        inputs: list[ir.Value | None] = []
        for i, value in enumerate(node.inputs):
            if value is None or value.dtype != ir.DataType.FLOAT or (i and node.op_type == "Resize"):
                inputs.append(value)
            elif (constant := array(value)) is not None:
                inputs.append(self.ops.r.const(rounded(constant, scale), f"{value.name}_u8"))
            else:
                inputs.append(self._made(value, scale))
                if inputs[-1] is None:
                    return None
        if node.op_type == "MaxPool" and _writer(inputs[0]) not in POOLED:
            return None
        if node.op_type == "Pad":
            inputs = [*inputs[:2], inputs[2] if len(inputs) > 2 and inputs[2] else self.ops.zero, *inputs[3:]]
        return self.ops.plain(node.op_type, inputs, node.outputs[0], **_attributes(node))


def _attributes(node: ir.Node) -> dict[str, object]:
    return {name: attribute.value for name, attribute in node.attributes.items()}


def _writer(value: ir.Value | None) -> str | None:
    producer = value.producer() if value is not None else None
    return None if producer is None else producer.op_type
