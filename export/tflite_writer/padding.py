"""Explicit pads, as ONNX has them, in TFLite's terms: SAME, VALID, or an operator before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import attribute, shape
from edgeseg.export.tflite_writer.flatbuffer import Tensor
from edgeseg.export.tflite_writer.graph import Graph
from edgeseg.export.tflite_writer.schema import schema

SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
CONCAT_INPUTS = 4  # XNNPACK takes no more at a time


@dataclass(frozen=True)
class Window:
    """A window sliding along one axis: lengths in and out, its extent with dilation, stride, and what it sees
    before and after the input."""

    length: int
    out: int
    extent: int
    stride: int
    before: int
    after: int

    @property
    def same(self) -> bool:
        """Whether TFLite's SAME pads so."""
        total = max((self.out - 1) * self.stride + self.extent - self.length, 0)
        return self.out == -(-self.length // self.stride) and self.before == total // 2

    @property
    def valid(self) -> bool:
        return self.before == 0 and self.after == 0


def windows(node: ir.Node, kernel: Sequence[int]) -> list[Window]:
    """The windows of a Conv or pooling ``node`` along height and width, without pads that none reaches."""
    assert node.inputs[0] is not None
    strides, dilations = attribute(node, "strides", (1, 1)), attribute(node, "dilations", (1, 1))
    lengths, outs, pads = shape(node.inputs[0])[2:], shape(node.outputs[0])[2:], pads_of(node)
    found = []
    for i in range(2):
        extent = (kernel[i] - 1) * dilations[i] + 1
        after = (outs[i] - 1) * strides[i] + extent - lengths[i] - pads[i]
        found.append(Window(lengths[i], outs[i], extent, strides[i], pads[i], max(after, 0)))
    return found


def pads_of(node: ir.Node) -> tuple[int, ...]:
    """Top, left, bottom, right. Raises InputError where they are left to ``auto_pad``."""
    if attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        raise InputError(f"{node.op_type} '{node.outputs[0].name}' has auto_pad: export explicit pads")
    return tuple(attribute(node, "pads", (0, 0, 0, 0)))


def resolve(g: Graph, x: Tensor, along: list[Window]) -> tuple[Tensor, int]:
    """``x``, padded with zeros where it must be, and the padding scheme that the operator then takes."""
    if all(w.valid for w in along):
        return x, VALID
    if all(w.same for w in along):
        return x, SAME
    return pad_zeros(g, x, [(0, 0), *((w.before, w.after) for w in along), (0, 0)]), VALID


def pad_zeros(g: Graph, x: Tensor, pads: Sequence[tuple[int, int]]) -> Tensor:
    """``pads``: (before, after) for each dimension of ``x``."""
    sizes = [d + b + a for d, (b, a) in zip(x.shape, pads, strict=True)]
    return g.op("PAD", [x, g.ints(np.array(pads))], sizes, schema.PadOptionsT())


def pad_edge(g: Graph, x: Tensor, axis: int, before: int, after: int) -> Tensor:
    """``x`` continued along ``axis`` by copies of its first and last element."""
    if not before and not after:
        return x
    first, last = cut(g, x, axis, 0, 1), cut(g, x, axis, x.shape[axis] - 1, 1)
    return join(g, [*[first] * before, x, *[last] * after], axis)


def cut(g: Graph, x: Tensor, axis: int, start: int, length: int) -> Tensor:
    """``length`` elements of ``x`` along ``axis``, from ``start``."""
    if length == x.shape[axis]:
        return x
    begin, sizes = [0] * len(x.shape), list(x.shape)
    begin[axis], sizes[axis] = start, length
    return g.op("SLICE", [x, g.ints(begin), g.ints(sizes)], sizes, schema.SliceOptionsT())


def join(g: Graph, parts: Sequence[Tensor], axis: int) -> Tensor:
    """The concatenation of ``parts``, all of one scale, along ``axis``."""
    while len(parts) > 1:
        parts = [_join(g, parts[i : i + CONCAT_INPUTS], axis) for i in range(0, len(parts), CONCAT_INPUTS)]
    return parts[0]


def _join(g: Graph, parts: Sequence[Tensor], axis: int) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    sizes = list(parts[0].shape)
    sizes[axis] = sum(p.shape[axis] for p in parts)
    return g.op("CONCATENATION", parts, sizes, schema.ConcatenationOptionsT(axis=axis))
