"""The TFLite graph under construction, and what each ONNX value became in it.

ONNX tensors of four dimensions are N×C×H×W, TFLite's kernels take N×H×W×C. Every value carries the order its
dimensions are stored in, so that a Transpose is only noted and no operator moves data that need not move.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, shape
from edgeseg.export.tflite_writer.flatbuffer import NUMBER, File, Quantization, Tensor
from edgeseg.export.tflite_writer.scales import Scales
from edgeseg.export.tflite_writer.schema import schema

Layout = tuple[int, ...]
NHWC: Layout = (0, 2, 3, 1)
HALF_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Placed:
    """An ONNX value in the file: dimension i of ``tensor`` is the value's dimension ``layout[i]``.

    ``negated``: ``tensor`` holds a boolean's opposite.
    """

    tensor: Tensor
    layout: Layout
    negated: bool = False


class Graph:
    """``half``: weights are stored in float16 and widened by the runtime."""

    def __init__(self, scales: Scales, half: bool) -> None:
        self.file = File()
        self.scales = scales
        self.half = half
        self.inputs: dict[str, Tensor] = {}
        self.values: dict[ir.Value, Placed] = {}
        self.done: set[ir.Node] = set()  # lowered together with another node
        self._made: dict[str, Tensor] = {}

    def op(
        self,
        kind: str,
        inputs: Sequence[Tensor],
        shape: Sequence[int],
        options: Any = None,
        quantization: Quantization | None = None,
        dtype: str | None = None,
    ) -> Tensor:
        """Operator ``kind`` with one output of NHWC ``shape``, by default of the first input's type and
        quantization. The same operator on the same tensors is written once."""
        if dtype is None:
            dtype, quantization = inputs[0].dtype, quantization or inputs[0].quantization
        settings = sorted(vars(options).items()) if options is not None else []
        key = repr((kind, [t.index for t in inputs], tuple(shape), dtype, quantization, settings))
        if key not in self._made:
            output = self.file.tensor(f"{kind.lower()}_{len(self._made)}", shape, dtype, quantization)
            self.file.operator(kind, inputs, [output], options)
            self._made[key] = output
        return self._made[key]

    def ints(self, values: Sequence[int] | int | NDArray[Any]) -> Tensor:
        """An int32 constant: axes, sizes, paddings."""
        return self.file.constant(np.asarray(values, np.int32))

    def weight(self, values: NDArray[np.float32]) -> Tensor:
        """A float constant that may be stored in half precision."""
        if not self.half or np.abs(values).max(initial=0) > HALF_MAX:
            return self.file.constant(values)
        stored = self.file.constant(values.astype(np.float16))
        return self.op("DEQUANTIZE", [stored], values.shape, schema.DequantizeOptionsT(), dtype="float32")

    @contextmanager
    def as_real(self, values: Sequence[ir.Value | None]) -> Iterator[None]:
        """Within, those of ``values`` that stand in int8 are read as float32."""
        held = {v: self.values[v] for v in values if v in self.values and self.values[v].tensor.dtype == "int8"}
        self.values.update({v: replace(p, tensor=self.real(p.tensor)) for v, p in held.items()})
        try:
            yield
        finally:
            self.values.update(held)

    def place(self, value: ir.Value, tensor: Tensor, layout: Layout = NHWC, negated: bool = False) -> None:
        """Record what ``value`` became."""
        self.values[value] = Placed(tensor, layout, negated)

    def stored(self, value: ir.Value | None) -> Placed:
        """``value`` as it lies in the file: bytes may stand for reals, a boolean may be negated."""
        assert value is not None
        return self.values[value] if value in self.values else self._constant(value)

    def read(self, value: ir.Value | None) -> Placed:
        """``value`` as a computation reads it: bytes that stand for reals become float32."""
        placed = self.stored(value)
        if placed.tensor.dtype == "uint8" and placed.tensor.quantization:
            return replace(placed, tensor=self.real(placed.tensor))
        if placed.negated:
            return replace(placed, tensor=self.opposite(placed.tensor), negated=False)
        return placed

    def nhwc(self, value: ir.Value | None) -> Tensor:
        """``value`` in NHWC order. Raises InputError where it has not four dimensions."""
        placed = self.read(value)
        if value is not None and len(placed.layout) != len(NHWC):
            raise InputError(f"'{value.name}' has {len(placed.layout)} dimensions where TFLite's kernels take 4")
        return self.ordered(placed, NHWC)

    def plain(self, value: ir.Value | None) -> Tensor:
        """``value`` in ONNX's own order."""
        placed = self.read(value)
        return self.ordered(placed, onnx_order(len(placed.layout)))

    def ordered(self, placed: Placed, layout: Layout) -> Tensor:
        """The tensor with its dimensions stored in the order ``layout``."""
        tensor = placed.tensor
        moves = [placed.layout.index(d) for d in layout]
        sizes = [tensor.shape[m] for m in moves]
        if moves == sorted(moves):
            return tensor
        if (moving := [m for m in moves if tensor.shape[m] != 1]) == sorted(moving):
            return self.reshape(tensor, sizes)
        return self.op("TRANSPOSE", [tensor, self.ints(moves)], sizes, schema.TransposeOptionsT())

    def reshape(self, tensor: Tensor, sizes: Sequence[int]) -> Tensor:
        if tensor.shape == tuple(sizes):
            return tensor
        options = schema.ReshapeOptionsT(newShape=np.array(sizes, np.int32))
        return self.op("RESHAPE", [tensor, self.ints(sizes)], sizes, options)

    def real(self, tensor: Tensor) -> Tensor:
        """The float32 values of a quantized tensor."""
        if tensor.quantization is None:
            return tensor
        return self.op("DEQUANTIZE", [tensor], tensor.shape, schema.DequantizeOptionsT(), dtype="float32")

    def opposite(self, x: Tensor) -> Tensor:
        """1 − x, of the numbers 0 and 1."""
        one = self.file.constant(np.ones([1] * len(x.shape), x.dtype), x.quantization)
        return self.op("SUB", [one, x], x.shape, schema.SubOptionsT())

    def quantization(self, value: ir.Value, like: Tensor) -> Quantization | None:
        """What ``value`` is stored with when it is computed from ``like``: None in float32."""
        if like.dtype != "int8":
            return None
        return self.scales.of(value) if value.dtype == ir.DataType.FLOAT else NUMBER

    def _constant(self, value: ir.Value) -> Placed:
        values = array(value)
        assert values is not None, f"'{value.name}' is read before it is written"
        layout = NHWC if values.ndim == 4 else onnx_order(values.ndim)
        return Placed(self.file.constant(values.transpose(layout)), layout)


def onnx_order(rank: int) -> Layout:
    return tuple(range(rank))


def stored_shape(value: ir.Value, layout: Layout = NHWC) -> tuple[int, ...]:
    """The shape of ``value`` stored in ``layout``."""
    sizes = shape(value)
    return tuple(sizes[d] for d in layout)


def axis_of(axis: int, layout: Layout) -> int:
    """Where ONNX's ``axis`` stands in ``layout``."""
    return layout.index(axis % len(layout))
