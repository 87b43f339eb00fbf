"""A Q/DQ graph in PyTorch, differentiable through its rounding.

Rounding passes derivatives on where it does not clip (the straight-through estimator, arXiv:1308.3432). Parts of the
graph are computed again on the way back, so that no more than ``MOST`` bytes of its tensors, and what stands between
the parts, are alive at a time (arXiv:1604.06174).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from edgeseg.export.passes._rewrite import array, attribute
from edgeseg.export.quantize._session import bytes_of
from edgeseg.export.quantize.histogram import BINS, Histogram
from edgeseg.export.quantize.plan import WEIGHTED
from edgeseg.export.sensitivity.allocator import give_back_large
from edgeseg.export.sensitivity.operators import OPERATORS, NoCounterpart

MOST = 64 << 20
LOW, HIGH = -128, 127


class TorchGraph:
    """``run`` gives the tensors ``names`` of the Q/DQ graph ``model``, or of a float graph. ``exact``: the float graph
    that it was made from. Each backward pass from them adds to ``noise``, by the names of what activations'
    QuantizeLinear and weights' DequantizeLinear write, the sum of the squares of derivative times rounding error; an
    output channel's weights are read together at every place, so of these the product is summed before. To the
    ``weights`` of the histograms in ``weighed``, by tensor of a float graph, it adds the squares of derivatives.

    Raises:
        NoCounterpart: an operator that has no counterpart in PyTorch here.
    """

    def __init__(
        self, model: ir.Model, exact: ir.Model, names: Sequence[str], weighed: Mapping[str, Histogram] | None = None
    ) -> None:
        give_back_large()
        nodes = _ancestors(model, names)
        if unknown := sorted({n.op_type for n in nodes} - {*OPERATORS, "QuantizeLinear", "DequantizeLinear"}):
            raise NoCounterpart(f"operator {unknown[0]} has no counterpart in PyTorch here")
        self.noise: defaultdict[str, float] = defaultdict(float)
        self.names, self._weighed = names, weighed or {}
        self._start = torch.zeros((), requires_grad=True)  # what a float graph is differentiable from
        self._constants = {
            str(v.name): torch.tensor(found)
            for node in nodes for v in node.inputs if v is not None and (found := array(v)) is not None
        }  # fmt: skip
        self._weights = dict[str, tuple[Tensor, Tensor, list[int]]]()  # rounded, by how much, the axes but channels'
        origin = {n.name: array(n.inputs[1]) for n in exact.graph if n.op_type in WEIGHTED}
        for node in nodes:
            read = node.inputs[1] if node.op_type in WEIGHTED else None
            if read is not None and (rounded := _rounded_weights(read.producer())) is not None:
                weights = torch.tensor(rounded, requires_grad=True)
                error = weights.detach() - torch.tensor(origin[node.name])
                axis = attribute(read.producer(), "axis", 1)  # type: ignore[arg-type]
                self._weights[str(read.name)] = weights, error, [a for a in range(weights.ndim) if a != axis]
        self._parts = list(_parts(nodes, names))

    def run(self, frame: Tensor) -> list[Tensor]:
        """``frame`` uint8 1×H×W×3 → float32 tensors, in the order of the names."""
        alive = {"frame": frame}
        for part in self._parts:
            given = [alive[name] for name in part.read]
            if torch.is_grad_enabled() and len(self._parts) > 1:
                found = checkpoint(self._run, part, *given, use_reentrant=False)
            else:
                found = self._run(part, *given)
            alive = {name: alive[name] for name in part.passed} | dict(zip(part.written, found, strict=True))
        return [alive[name] for name in self.names]

    def _run(self, part: _Part, *given: Tensor) -> list[Tensor]:
        alive = dict(zip(part.read, given, strict=True))
        for node, done in part.nodes:
            alive[str(node.outputs[0].name)] = self._compute(node, alive)
            for name in done:
                del alive[name]
        return [alive[name] for name in part.written]

    def _compute(self, node: ir.Node, alive: Mapping[str, Tensor]) -> Tensor:
        inputs = [None if v is None else self._constants.get(str(v.name), alive.get(str(v.name))) for v in node.inputs]
        written = str(node.outputs[0].name)
        if node.op_type == "QuantizeLinear":
            assert inputs[0] is not None and inputs[1] is not None
            rounded = _Round.apply(inputs[0], inputs[1])  # type: ignore[no-untyped-call]
            return self._watched(rounded, (rounded - inputs[0]).detach(), [], written)
        if node.op_type == "DequantizeLinear":  # what was rounded kept its unit
            assert inputs[0] is not None
            return self._watched(*self._weights[written], written) if written in self._weights else inputs[0]
        found = OPERATORS[node.op_type](node, inputs)
        if written in self._weighed and torch.is_grad_enabled():
            weighed: Tensor = _Weigh.apply(found, self._start, self._weighed[written])  # type: ignore[no-untyped-call]
            return weighed
        return found

    def _watched(self, rounded: Tensor, error: Tensor, together: list[int], name: str) -> Tensor:
        found: Tensor = _Watch.apply(rounded, error, together, self.noise, name)  # type: ignore[no-untyped-call]
        return found


def _rounded_weights(node: ir.Node | None) -> NDArray[np.float32] | None:
    """What a DequantizeLinear of constants gives."""
    steps = array(node.inputs[0]) if node is not None and node.op_type == "DequantizeLinear" else None
    if node is None or steps is None:
        return None
    scale, axis = array(node.inputs[1]), attribute(node, "axis", 1)
    assert scale is not None
    along: NDArray[np.float32] = scale.reshape([-1 if a == axis else 1 for a in range(steps.ndim)])
    return steps.astype(np.float32) * along


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor) -> Tensor:
        steps = (x / step).round_()
        ctx.save_for_backward((steps >= LOW) & (steps <= HIGH))
        return steps.clamp_(LOW, HIGH).mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None


class _Watch(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, error: Tensor, together: list[int], into: defaultdict[str, float], name: str
    ) -> Tensor:
        ctx.save_for_backward(error)
        ctx.together, ctx.into, ctx.name = together, into, name
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (error,) = ctx.saved_tensors
        each = gradients[0] * error
        ctx.into[ctx.name] += (each.sum(ctx.together) if ctx.together else each).square().sum().item()
        return gradients[0], None, None, None, None


@dataclass(frozen=True)
class _Part:
    """``nodes``, each with the tensors that are done with after it. It reads ``read`` and leaves ``written`` behind;
    ``passed`` is alive before it and after it."""

    nodes: list[tuple[ir.Node, list[str]]]
    read: list[str]
    passed: list[str]
    written: list[str]


def _ancestors(model: ir.Model, names: Sequence[str]) -> list[ir.Node]:
    """The nodes that ``names`` need, in the graph's order."""
    wanted, found = set(names), list[ir.Node]()
    for node in reversed(list(model.graph)):
        if any(v.name in wanted for v in node.outputs):
            wanted |= {str(v.name) for v in node.inputs if v is not None}
            found.append(node)
    return found[::-1]


def _parts(nodes: Sequence[ir.Node], names: Sequence[str]) -> Iterator[_Part]:
    reads = [[str(v.name) for v in node.inputs if v is not None] for node in nodes]
    last = {name: i for i, read in enumerate(reads) for name in read} | dict.fromkeys(names, len(nodes))
    alive = ["frame"]
    for start, end in pairwise(_cuts(nodes, last)):
        read = [name for name in alive if any(name in reads[i] for i in range(start, end))]
        known, each = set(read), list[tuple[ir.Node, list[str]]]()
        for i in range(start, end):
            known.add(str(nodes[i].outputs[0].name))
            each.append((nodes[i], [name for name in dict.fromkeys(reads[i]) if name in known and last[name] == i]))
        passed = [name for name in alive if last[name] >= end]
        written = [str(node.outputs[0].name) for node, _ in each if last[str(node.outputs[0].name)] >= end]
        yield _Part(each, read, passed, written)
        alive = passed + written


def _cuts(nodes: Sequence[ir.Node], last: Mapping[str, int]) -> list[int]:
    """Where parts begin, and the end: cut where the least is alive, so that parts have between half of ``MOST`` and all
    of it."""
    sizes, alive, ends = [bytes_of(node.outputs[0]) for node in nodes], 0, defaultdict[int, int](int)
    cuts, size, best = [0], 0, (0, 0)
    for i, node in enumerate(nodes):
        alive += sizes[i] - ends[i]
        ends[last[str(node.outputs[0].name)]] += sizes[i]
        size += sizes[i]
        if size > MOST and best[1] > cuts[-1]:
            cuts.append(best[1])
            size, best = sum(sizes[best[1] : i + 1]), (0, 0)
        if size > MOST // 2 and (best[1] == 0 or alive <= best[0]):
            best = alive, i + 1
    return [*cuts, len(nodes)]


class _Weigh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, start: Tensor, into: Histogram) -> Tensor:
        ctx.save_for_backward(x)
        ctx.into = into
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        into: Histogram = ctx.into
        if into.top:
            bins = x.abs().mul_(BINS / into.top).clamp_(max=BINS - 1).to(torch.int32).reshape(-1)
            into.weights += torch.bincount(bins, gradients[0].square().reshape(-1).double(), BINS).numpy()
        return gradients[0], None, None
