"""ONNX Runtime's integer operators (ONNX QLinearConv; com.microsoft QLinearAdd and so on, its ContribOperators.md).

Activations are uint8 with zero point 128, the same values as int8 with 0: on x86 the kernels of uint8 × int8 are the
fast ones. Where a kernel needs a second form of a constant, it gets a copy: nodes that share an int8 weight are refused
when ``session.x64quantprecision`` is set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.export.passes._rewrite import Rewriter, array

DOMAIN = "com.microsoft"
ZERO = 128
BIAS_MAX = np.float32(1 << 30)  # steps: where weights are as good as zero, the bias sets their scale


@dataclass(frozen=True)
class Stored:
    """A uint8 ``value`` whose steps from ``zero`` are ``scale``."""

    value: ir.Value
    scale: float
    zero: int = ZERO


class Operators:
    """Appends integer operators to a graph. Each gives uint8 of the ``scale`` asked."""

    def __init__(self, r: Rewriter) -> None:
        self.r = r
        r.model.opset_imports[DOMAIN] = 1
        self.zero = r.const(np.uint8(ZERO), "zero_u8")
        self._scales: dict[float, ir.Value] = {}
        self._zeros = {ZERO: self.zero}

    def grid(self, scale: float, zero: int = ZERO) -> list[ir.Value]:
        """Scale and zero point, as operators take them."""
        if scale not in self._scales:
            self._scales[scale] = self.r.const(np.float32(scale), "step")
        if zero not in self._zeros:
            self._zeros[zero] = self.r.const(np.uint8(zero), "zero_u8")
        return [self._scales[scale], self._zeros[zero]]

    def plain(self, kind: str, inputs: list[ir.Value | None], like: ir.Value, **attributes: Any) -> ir.Value:
        """An operator that treats uint8 as it does float; ``like`` is the float value that is stored."""
        value = self.r.op(kind, inputs, f"{like.name}_int", **attributes)
        value.shape, value.dtype = like.shape, ir.DataType.UINT8
        return value

    def contrib(
        self, kind: str, read: list[Stored], scale: float, like: ir.Value, zero: int = ZERO, **attributes: Any
    ) -> ir.Value:
        """An operator of ONNX Runtime's own domain."""
        inputs: list[ir.Value | None] = []
        for x in read:
            inputs += [x.value, *self.grid(x.scale, x.zero)]
        value = self.plain(kind, [*inputs, *self.grid(scale, zero)], like, **attributes)
        producer = value.producer()
        assert producer is not None
        producer.domain = DOMAIN
        return value

    def conv(self, x: Stored, kernel: Kernel, scale: float, like: ir.Value, **attributes: Any) -> ir.Value:
        values, steps, bias = kernel.integers(x.scale)
        name = f"{like.name}_kernel"
        weight = [self.r.const(values, name), self.r.const(steps, f"{name}_steps")]
        weight.append(self.r.const(np.zeros(len(values), np.int8), f"{name}_zeros"))
        inputs = [x.value, *self.grid(x.scale), *weight, *self.grid(scale), self.r.const(bias, f"{name}_bias")]
        return self.plain("QLinearConv", list(inputs), like, **attributes)


@dataclass(frozen=True)
class Kernel:
    """int8 ``values`` (O×I×…), their ``steps`` and a float ``bias``, both by output channel."""

    values: NDArray[np.int8]
    steps: NDArray[np.float32]
    bias: NDArray[np.float64]

    @classmethod
    def of(cls, node: ir.Node) -> Kernel | None:
        """That of a Conv with quantized weights."""
        source = node.inputs[1].producer() if node.inputs[1] is not None else None
        if source is None or source.op_type != "DequantizeLinear":
            return None
        values, steps = array(source.inputs[0]), array(source.inputs[1])
        bias = array(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(1)
        if values is None or steps is None or bias is None or values.dtype != np.int8:
            return None
        count = len(values)
        return cls(values, np.broadcast_to(steps, count), np.broadcast_to(bias, count).astype(np.float64))

    def times(self, factors: NDArray[np.float32]) -> Kernel:
        """Each output channel multiplied: scales must stay positive, so signs go to the weights."""
        along = np.broadcast_to(factors.ravel(), len(self.values))
        values = (self.values * self._each(np.sign(along))).astype(np.int8)
        return Kernel(values, np.where(along == 0, self.steps, self.steps * np.abs(along)), self.bias * along)

    def integers(self, scale: float) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int32]]:
        """Weights, steps and int32 bias for an input of ``scale``."""
        least = np.maximum(self.steps, np.finfo(np.float32).tiny)  # a slope next to nothing leaves no step
        wide = np.maximum(least, np.abs(self.bias) / (BIAS_MAX * np.float32(scale))).astype(np.float32)
        values = np.round(self.values * self._each(self.steps / wide)).astype(np.int8)
        bias = np.round(self.bias / (wide.astype(np.float64) * np.float32(scale))).astype(np.int32)
        return values, wide, bias

    def _each(self, by_channel: NDArray[Any]) -> NDArray[Any]:
        return by_channel.reshape(-1, *[1] * (self.values.ndim - 1))


def rounded(values: NDArray[Any], scale: float) -> NDArray[np.uint8]:
    """``values`` as QuantizeLinear rounds them."""
    steps = np.round(values.astype(np.float32) / np.float32(scale)) + ZERO
    return np.asarray(np.clip(steps, 0, 255), np.uint8)
