"""Sums, products and decisions of two tensors, in the operators that XNNPACK computes in float32 and in int8.

XNNPACK has neither comparisons nor selections, and what it lacks splits the graph into many delegates around
slow scalar kernels. So a boolean is a *number* here, 0 or 1, in the arithmetic of the graph it stands in:
float32, or int8 of scale 1; small integers likewise. All results are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.tflite_writer.flatbuffer import NUMBER, Quantization, Tensor
from edgeseg.export.tflite_writer.graph import Graph
from edgeseg.export.tflite_writer.padding import join
from edgeseg.export.tflite_writer.scales import LEVELS
from edgeseg.export.tflite_writer.schema import schema

NONE, RELU, CLAMP_1, RELU6 = 0, 1, 2, 3  # schema.ActivationFunctionType
HUGE = 2.0**126  # times any difference of normal float32 numbers: at least 1


def binary(
    g: Graph, kind: str, a: Tensor, b: Tensor, activation: int = NONE, out: Quantization | None = None
) -> Tensor:
    """ADD, SUB or MUL with broadcasting; ``out`` quantizes an int8 result, by default as ``a``."""
    options = getattr(schema, f"{kind.capitalize()}OptionsT")(fusedActivationFunction=activation)
    return g.op(kind, [a, b], np.broadcast_shapes(a.shape, b.shape), options, out)


def constant(g: Graph, values: NDArray[Any], partner: Tensor) -> Tensor:
    """``values`` in the arithmetic of ``partner``; in int8, integers keep their value and reals take the
    scale that just holds them."""
    if partner.dtype != "int8":
        return g.file.constant(values.astype(partner.dtype))
    if values.dtype.kind in "biu":
        if np.abs(values.astype(np.int64)).max(initial=0) > LEVELS:
            raise InputError(f"int8: integers {values.min()} … {values.max()} go beyond ±{LEVELS}")
        return g.file.constant(values.astype(np.int8), NUMBER)
    scale = Quantization.of(float(np.abs(values).max(initial=0)) / LEVELS or 1.0)
    return g.file.constant(np.round(values / np.float32(scale.scale[0])).astype(np.int8), scale)


def filled(g: Graph, value: float, like: Tensor) -> Tensor:
    """One ``value`` of the rank and arithmetic of ``like``; an int stays one."""
    kind = np.int32 if isinstance(value, int) else np.float32
    return constant(g, np.full([1] * len(like.shape), value, kind), like)


def requantize(g: Graph, x: Tensor, out: Quantization) -> Tensor:
    """``x``, float32 or quantized, as int8 of quantization ``out``. XNNPACK's QUANTIZE takes the ratio of two int8
    scales in 256ths, its MUL in full."""
    if x.dtype == "int8":
        return x if x.quantization == out else binary(g, "MUL", x, filled(g, 1.0, x), out=out)
    if x.dtype == "uint8":  # QUANTIZE rounds bytes twice and is a step too high for one in four of them
        x = g.real(x)
    return g.op("QUANTIZE", [x], x.shape, schema.QuantizeOptionsT(), out, "int8")


def clamped(g: Graph, x: Tensor, activation: int, out: Quantization | None = None) -> Tensor:
    """``x`` with a clamp that has no int8 operator of its own in XNNPACK: a product with 1 carries it."""
    if x.dtype != "int8":
        return g.op({RELU: "RELU", RELU6: "RELU6", CLAMP_1: "RELU_N1_TO_1"}[activation], [x], x.shape)
    return binary(g, "MUL", x, filled(g, 1.0, x), activation, out)


def less(g: Graph, a: Tensor, b: Tensor) -> Tensor:
    """The number 1 where ``a`` < ``b``, else 0; both of one scale."""
    above = binary(g, "SUB", b, a, RELU)
    if above.dtype != "int8":
        return binary(g, "MUL", above, filled(g, HUGE, above), CLAMP_1)
    # One int8 step times 127/scale is far beyond 1, where the clamp holds it.
    many = g.file.constant(np.full([1] * len(above.shape), LEVELS, np.int8), Quantization.of(1 / above.scale))
    return binary(g, "MUL", above, many, CLAMP_1, NUMBER)


def unequal_integers(g: Graph, a: Tensor, b: Tensor) -> Tensor:
    """The number 1 where the small integers ``a`` and ``b`` differ, else 0."""
    difference = binary(g, "SUB", a, b)
    return binary(g, "MUL", difference, difference, CLAMP_1)


def as_number(g: Graph, mask: Tensor, like: Tensor) -> Tensor:
    """``mask`` in the arithmetic of ``like``."""
    if mask.dtype == like.dtype:
        return mask
    return requantize(g, mask, NUMBER) if like.dtype == "int8" else g.real(mask)


def maximum(g: Graph, a: Tensor, b: Tensor) -> Tensor:
    """The greater of each pair; of two int8 tensors, of one scale."""
    if a.dtype == "int8" and a.quantization == NUMBER:  # small: their difference does not saturate
        return binary(g, "ADD", b, binary(g, "SUB", a, b, RELU))
    if a.dtype == "int8" and a.shape == b.shape and len(a.shape) == 4:
        return _stacked_maximum(g, a, b)
    options = schema.MaximumMinimumOptionsT()
    return g.op("MAXIMUM", [a, b], np.broadcast_shapes(a.shape, b.shape), options)


def _stacked_maximum(g: Graph, a: Tensor, b: Tensor) -> Tensor:
    """XNNPACK has no int8 MAXIMUM, but pools: the two maps stacked, windows of two rows."""
    n, h, w, c = a.shape
    both = join(g, [g.reshape(t, (n, 1, h * w, c)) for t in (a, b)], 1)
    options = schema.Pool2DOptionsT(padding=schema.Padding.VALID, strideW=1, strideH=2)
    options.filterWidth, options.filterHeight = 1, 2
    return g.reshape(g.op("MAX_POOL_2D", [both], (n, 1, h * w, c), options), a.shape)
