"""A Q/DQ graph in PyTorch, differentiable through its rounding, with the weights behind it as parameters.

Rounding passes gradients on where it does not clip (the straight-through estimator, arXiv:1308.3432). Parts of the
graph are recomputed in the backward pass, so that no more than ``MOST`` bytes of its tensors, and what stands between
the parts, are alive at a time (arXiv:1604.06174).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, attribute, shape
from edgeseg.export.quantize.bias import is_convolution
from edgeseg.export.tune.operators import OPERATORS

MOST = 64 << 20
LOW, HIGH = -128, 127


class TorchGraph:
    """``run`` gives the tensors ``names`` of the Q/DQ graph ``model``.

    ``weights`` float32, and ``biases``: of the convolutions in int8, by their nodes' names; ``weights`` start as those
    of ``exact``, the float graph that ``model`` was made from, and are rounded to ``levels`` per output channel at each
    run, ``biases`` as ``model`` has them. Where ``noise`` is a dictionary, each backward pass adds to it,
    by the names of what activations' QuantizeLinear and weights' DequantizeLinear write, the sum of the squares of
    gradient times rounding error.

    Raises:
        InputError: an operator that has no counterpart in PyTorch here.
    """

    def __init__(self, model: ir.Model, exact: ir.Model, names: Sequence[str], levels: int) -> None:
        self._names, self._levels = names, levels
        nodes = _ancestors(model, names)
        if unknown := sorted({n.op_type for n in nodes} - {*OPERATORS, "QuantizeLinear", "DequantizeLinear"}):
            raise InputError(f"operator {unknown[0]} has no counterpart in PyTorch here")
        self.weights, self.biases = dict[str, Tensor](), dict[str, Tensor]()
        self._weight_of: dict[str, tuple[str, int]] = {}
        origin = {n.name: array(n.inputs[1]) for n in exact.graph if is_convolution(n)}
        for node in nodes:
            rounded = (
                node.inputs[1].producer() if node.op_type in ("Conv", "ConvTranspose") and node.inputs[1] else None
            )
            if rounded is None or rounded.op_type != "DequantizeLinear" or array(rounded.inputs[0]) is None:
                continue
            name = str(node.name)
            self.weights[name] = torch.tensor(origin[name], requires_grad=True)
            self._weight_of[str(rounded.outputs[0].name)] = name, int(attribute(rounded, "axis", 1))
            if len(node.inputs) > 2 and (bias := array(node.inputs[2])) is not None:
                self.biases[name] = torch.tensor(bias, requires_grad=True)
        self._constants = {
            str(v.name): torch.tensor(found)
            for node in nodes for v in node.inputs if v is not None and (found := array(v)) is not None
        }  # fmt: skip
        self._parts = list(_parts(nodes, names))
        self.noise: defaultdict[str, float] | None = None

    def parameters(self) -> list[Tensor]:
        return [*self.weights.values(), *self.biases.values()]

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
        return [alive[name] for name in self._names]

    def _run(self, part: _Part, *given: Tensor) -> list[Tensor]:
        alive = dict(zip(part.read, given, strict=True))
        for node, done in part.nodes:
            alive[str(node.outputs[0].name)] = self._compute(node, alive)
            for name in done:
                del alive[name]
        return [alive[name] for name in part.written]

    def _compute(self, node: ir.Node, alive: Mapping[str, Tensor]) -> Tensor:
        inputs = [None if v is None else self._constants.get(str(v.name), alive.get(str(v.name))) for v in node.inputs]
        if node.op_type == "QuantizeLinear":
            assert inputs[0] is not None and inputs[1] is not None
            return self._watched(_rounded(inputs[0], inputs[1], LOW, HIGH), inputs[0], str(node.outputs[0].name))
        if node.op_type == "DequantizeLinear":  # what was rounded kept its unit
            assert inputs[0] is not None
            written = str(node.outputs[0].name)
            return self._weight(written, *self._weight_of[written]) if written in self._weight_of else inputs[0]
        if node.name in self.biases:
            inputs[2] = self.biases[node.name]
        return OPERATORS[node.op_type](node, inputs)

    def _weight(self, written: str, name: str, axis: int) -> Tensor:
        values = self.weights[name]
        others = [a for a in range(values.ndim) if a != axis]
        step = values.detach().abs().amax(others, keepdim=True).clamp_min(1e-12) / self._levels
        return self._watched(_rounded(values, step, -self._levels, self._levels), values, written)

    def _watched(self, rounded: Tensor, exact: Tensor, name: str) -> Tensor:
        if self.noise is None:
            return rounded
        found: Tensor = _Watch.apply(rounded, (rounded - exact).detach(), self.noise, name)  # type: ignore[no-untyped-call]
        return found


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
        steps = (x / step).round_()
        ctx.save_for_backward((steps >= low) & (steps <= high))
        return steps.clamp_(low, high).mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None


def _rounded(x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    found: Tensor = _Round.apply(x, step, low, high)  # type: ignore[no-untyped-call]
    return found


class _Watch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, error: Tensor, into: defaultdict[str, float], name: str) -> Tensor:
        ctx.save_for_backward(error)
        ctx.into, ctx.name = into, name
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (error,) = ctx.saved_tensors
        ctx.into[ctx.name] += (gradients[0] * error).square().sum().item()
        return gradients[0], None, None, None


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
    for start, end in pairwise(_cuts(nodes)):
        read = [name for name in alive if any(name in reads[i] for i in range(start, end))]
        known, each = set(read), list[tuple[ir.Node, list[str]]]()
        for i in range(start, end):
            known.add(str(nodes[i].outputs[0].name))
            each.append((nodes[i], [name for name in dict.fromkeys(reads[i]) if name in known and last[name] == i]))
        passed = [name for name in alive if last[name] >= end]
        written = [str(node.outputs[0].name) for node, _ in each if last[str(node.outputs[0].name)] >= end]
        yield _Part(each, read, passed, written)
        alive = passed + written


def _cuts(nodes: Sequence[ir.Node]) -> list[int]:
    """Where parts begin, and the end."""
    cuts, size = [0], 0
    for i, node in enumerate(nodes):
        more = 4 * math.prod(shape(node.outputs[0]))
        if size and size + more > MOST:
            cuts.append(i)
            size = 0
        size += more
    return [*cuts, len(nodes)]
