"""Balances the ranges of channels that share one int8 scale, without a change of what the network computes.

A channel may be scaled by any positive factor where it is written (a convolution's weights and bias of that output)
if it is scaled back where it is read (the weights of that input), and what lies between is homogeneous: ReLU and its
leaky forms, pooling, resizing, sums, joins, comparisons of a channel with itself. So small channels are raised towards
the range of the tensor they stand in, over all tensors at once (data-free quantization, arXiv:1906.04721, section 4.1,
does it from layer to layer; the exponent that leaves part of the difference to the weights is arXiv:2211.10438's).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.export.passes._rewrite import Rewriter, array, attribute
from edgeseg.export.quantize._session import Observed
from edgeseg.export.quantize.plan import INPUT, Plan

SHARE = 0.5  # of the difference, in powers, that the activations are relieved of
MOST = 16.0  # factor
SAME = (
    "MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "Relu", "PRelu", "LeakyRelu", "Identity", "Slice", "Pad",
)  # fmt: skip
ALIKE = ("Add", "Sub", "Max", "Where", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
Ranges = dict[str, NDArray[np.float32]]


def channel_ranges(
    model: ir.Model, frames: Iterable[NDArray[np.uint8]], done: Callable[[], None] = lambda: None
) -> Ranges:
    """The absolute maximum of each channel of each point N×C×H×W over ``frames`` (uint8 H×W×3 each), by name."""
    names = [str(v.name) for v in Plan(model).points if v.shape is not None and len(v.shape) == 4]
    observed = Observed(model, names)
    found: Ranges = {}
    for frame in frames:
        for name, values in observed.run(frame):
            seen = np.maximum(values.max((0, 2, 3)), -values.min((0, 2, 3)))
            found[name] = np.maximum(found.get(name, 0), seen)
        done()
    return found


def equalize(model: ir.Model, ranges: Ranges, share: float = SHARE) -> ir.Model:
    """A copy of the clean float ``model`` that computes the same with channels of more equal range. ``ranges`` as
    ``channel_ranges`` gives them."""
    model = model.clone()
    channels = _Channels(model)
    factors = channels.factors(ranges, share)
    r = Rewriter(model)
    for node in model.graph:
        if node.op_type in ("Conv", "ConvTranspose") and array(node.inputs[1]) is not None:
            _scale(r, node, factors[channels.of(node.inputs[0])], factors[channels.of(node.outputs[0])])
    r.finish()
    return model


class _Channels:
    """The class of every channel of every map: channels of one class are scaled alike, those of class 0 not at all."""

    def __init__(self, model: ir.Model) -> None:
        self._parent = [0]
        self._classes: dict[ir.Value, NDArray[np.int64]] = {}
        self._unscaled = np.zeros(1, np.int64)
        before = True
        for node in model.graph:
            for output in node.outputs:
                self._new(output)
            if before:
                before = node.outputs[0].name != INPUT
                self._fix(node)
            else:
                self._visit(node)
        for output in model.graph.outputs:
            self._unite(self.of(output), self._unscaled)

    def of(self, value: ir.Value | None) -> NDArray[np.int64]:
        """The classes of the channels of ``value``; one class 0 where it has no channels."""
        found = self._classes.get(value, self._unscaled) if value is not None else self._unscaled
        return np.array([self._root(int(c)) for c in found])

    def factors(self, ranges: Ranges, share: float) -> NDArray[np.float32]:
        """The factor of each class: as far as every tensor it stands in allows without a larger range."""
        free = np.full(len(self._parent), np.inf, np.float32)
        for value in self._classes:
            seen = ranges.get(str(value.name))
            if seen is not None and seen.max() > 0:
                room = seen.max() / np.maximum(seen, seen.max() / MOST ** (1 / share))
                np.minimum.at(free, self.of(value), room)
        free[~np.isfinite(free)] = 1
        free[0] = 1
        factors: NDArray[np.float32] = free**share
        return factors

    def _visit(self, node: ir.Node) -> None:
        if node.op_type in ("Conv", "ConvTranspose") and array(node.inputs[1]) is not None:
            return
        if node.op_type in SAME and not self._along_channels(node):
            self._tie(node, node.inputs[:1])
        elif node.op_type in ALIKE:
            self._tie(node, node.inputs)
        elif node.op_type == "Concat" and attribute(node, "axis", 0) == 1 and all(self._has(v) for v in node.inputs):
            self._unite(self._classes[node.outputs[0]], np.concatenate([self._classes[v] for v in node.inputs]))  # type: ignore[index]
        else:
            self._fix(node)

    def _tie(self, node: ir.Node, inputs: Iterable[ir.Value | None]) -> None:
        """Channel by channel one class; a constant is homogeneous only where it is zero."""
        values: list[ir.Value | None] = [node.outputs[0]]
        for value in inputs:
            constant = array(value)
            if constant is None and value is not None and value.dtype != ir.DataType.BOOL:
                values.append(value)
            elif constant is not None and constant.any():
                values.append(None)
        counts = {len(self._classes[v]) if v in self._classes else 0 for v in values if v is not None}
        for value in values:
            known = value is not None and value in self._classes
            self._unite(self.of(node.outputs[0]), self.of(value) if known and len(counts) == 1 else self._unscaled)
        if len(counts) > 1:
            self._fix(node)

    def _fix(self, node: ir.Node) -> None:
        for value in (*node.inputs, *node.outputs):
            self._unite(self.of(value), self._unscaled)

    def _along_channels(self, node: ir.Node) -> bool:
        """Whether a Slice or Pad touches the axis of channels, or a Pad fills with anything but zeros of its own."""
        if node.op_type == "Slice":
            axes = array(node.inputs[3]) if len(node.inputs) > 3 else None
            return axes is None or bool((axes % 4 <= 1).any())
        if node.op_type == "Pad":
            pads, filled = array(node.inputs[1]), array(node.inputs[2]) if len(node.inputs) > 2 else None
            rank = 4
            return pads is None or bool(pads.reshape(2, rank)[:, :2].any()) or bool(filled is not None and filled.any())
        return False

    def _has(self, value: ir.Value | None) -> bool:
        return value is not None and value in self._classes

    def _new(self, value: ir.Value) -> None:
        if value.shape is None or len(value.shape) != 4 or not isinstance(value.shape[1], int):
            return
        first = len(self._parent)
        self._parent.extend(range(first, first + value.shape[1]))
        self._classes[value] = np.arange(first, first + value.shape[1])

    def _root(self, name: int) -> int:
        while self._parent[name] != name:
            self._parent[name] = self._parent[self._parent[name]]
            name = self._parent[name]
        return name

    def _unite(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> None:
        for one, other in np.broadcast(a, b):
            roots = sorted((self._root(int(one)), self._root(int(other))))
            self._parent[roots[1]] = roots[0]


def _scale(r: Rewriter, node: ir.Node, read: NDArray[np.float32], written: NDArray[np.float32]) -> None:
    """Scale the outputs' weights and bias by ``written``, the inputs' weights by the inverse of ``read``."""
    if (read == 1).all() and (written == 1).all():
        return
    weight = node.inputs[1]
    values = array(weight)
    assert weight is not None and values is not None
    group = attribute(node, "group", 1)
    parts = values.reshape(group, values.shape[0] // group, *values.shape[1:])  # by group: O×I×… , transposed I×O×…
    rest = (1,) * (values.ndim - 2)
    inverse, outer = (1 / read).reshape(group, -1), written.reshape(group, -1)
    if node.op_type == "ConvTranspose":
        scaled = parts * inverse.reshape(group, -1, 1, *rest) * outer.reshape(group, 1, -1, *rest)
    else:
        scaled = parts * outer.reshape(group, -1, 1, *rest) * inverse.reshape(group, 1, -1, *rest)
    node.replace_input_with(1, r.const(scaled.reshape(values.shape).astype(np.float32), f"{weight.name}_equal"))
    if len(node.inputs) > 2 and (bias := array(node.inputs[2])) is not None:
        node.replace_input_with(2, r.const((bias * written).astype(np.float32), f"{node.inputs[2].name}_equal"))  # type: ignore[union-attr]
