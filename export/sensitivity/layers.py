"""What each layer's rounding does to the network's answer, from a few backward passes, however many layers there are.

A rounding error e of a tensor moves the answer by J e, J being the answer's derivative. With v of independent normal
numbers, E[(vᵀJ)ᵢ²] is the sum of J's squares in column i, so that one backward pass from v tells, for all tensors at
once, Σᵢ (vᵀJ)ᵢ² eᵢ²: the power that errors bring which are independent of each other (the estimator of a diagonal is
Bekas, Kokiopoulou and Saad's, Applied Numerical Mathematics 57, 2007).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeseg.export._exact import last_floats
from edgeseg.export.passes._rewrite import Rewriter
from edgeseg.export.passes.suppress import RAW
from edgeseg.export.quantize.layer import Layer, works
from edgeseg.export.quantize.plan import WEIGHTED, Plan
from edgeseg.export.sensitivity.graph import TorchGraph

PROBES = 4  # of each frame


def sensitivity(
    exact: ir.Model,
    quantized: Callable[[Collection[str]], ir.Model],
    frames: Sequence[NDArray[np.uint8]],
    done: Callable[[], None] = lambda: None,
) -> list[Layer]:
    """Every layer of ``exact``, the clean float graph, in its order. ``quantized(keep)`` gives its Q/DQ graph with the
    layers ``keep`` in float. The noise is that of the layer's weights, inputs and output where all are in int8,
    relative to the answer's power, summed over outputs. What decides pooling indices has no derivative: of such layers
    it is what is gained where they are in float, shared among them. The frame's own rounding, and that of what is
    pooled from it without weights, is not counted. ``frames`` are uint8 H×W×3 each; ``done`` is called after each.

    Raises:
        NoCounterpart: an operator that has no counterpart in PyTorch here.
    """
    layers, rounded = Plan(exact).layers(), quantized(())
    found = dict.fromkeys(layers, 0.0)
    for name, power in _by_derivative(exact, rounded, frames, done):
        if name in layers:
            found[name] += power
    if groups := deciding(exact):
        whole = noise(exact, rounded, frames)
        for group in groups:
            gain = whole - noise(exact, quantized(group), frames)
            found.update({name: max(found[name], gain / len(group)) for name in group})
    work = works(layers)
    return [Layer(name, "+".join(n.op_type for n in nodes), work[name], found[name]) for name, nodes in layers.items()]


def noise(exact: ir.Model, rounded: ir.Model, frames: Sequence[NDArray[np.uint8]]) -> float:
    """What ``rounded`` adds to the answers of ``exact``, as a layer's."""
    graphs = [TorchGraph(model, exact, last_floats(model)) for model in (exact, rounded)]
    total = 0.0
    with torch.no_grad():
        for frame in frames:
            for a, b in zip(*(answers(graph, frame) for graph in graphs), strict=True):
                total += float((a - b).square().mean() / a.square().mean().clamp_min(1e-30))
    return total / len(frames)


def _by_derivative(
    exact: ir.Model, rounded: ir.Model, frames: Sequence[NDArray[np.uint8]], done: Callable[[], None]
) -> Iterator[tuple[str, float]]:
    model = rounded.clone()
    ends = _one_pair_for_each_reader(model)
    graph = TorchGraph(model, exact, last_floats(model))
    random = torch.Generator().manual_seed(0)
    for frame in frames:
        for _ in range(PROBES):
            probe(graph, frame, random)
        done()
    layer_of = {node.name: name for name, nodes in Plan(exact).layers().items() for node in nodes}
    for pair, nodes in ends.items():
        for name in {layer_of.get(node, "") for node in nodes}:
            yield name, graph.noise[pair] / (PROBES * len(frames))


def deciding(model: ir.Model) -> list[list[str]]:
    """The layers whose values are compared to find a maximum's place: those of each pooling together."""
    plan, groups = Plan(model), set[frozenset[str]]()
    for node in model.graph:
        if node.outputs[0].dtype == ir.DataType.BOOL:
            groups.update(frozenset(plan.sources(v)) for v in node.inputs if plan.scale_of(v) is not None)
    layers = plan.layers()
    return sorted(sorted(group & layers.keys()) for group in groups if group & layers.keys())


def answers(graph: TorchGraph, frame: NDArray[np.uint8]) -> list[Tensor]:
    """What of the outputs for ``frame``, uint8 H×W×3, is the answer. Of a detector: the scores, and the boxes as far as
    there is an object in them. Most of its logits say that there is none, and by how much is of no account."""
    found = graph.run(torch.tensor(frame[None]))
    if tuple(graph.names) != RAW:
        return found
    scores, boxes = found[0].sigmoid(), found[1]
    return [scores, boxes * scores.detach().amax(-1, keepdim=True)]


def probe(graph: TorchGraph, frame: NDArray[np.uint8], random: torch.Generator) -> None:
    """One backward pass of ``frame``, uint8 H×W×3, from a random direction of each answer, relative to its size."""
    parts = [_directed(answer, random) for answer in answers(graph, frame)]
    torch.stack(parts).sum().backward()  # type: ignore[no-untyped-call]


def _directed(answer: Tensor, random: torch.Generator) -> Tensor:
    direction = torch.randn(answer.shape, generator=random)
    return (direction * answer).sum() / answer.detach().square().sum().sqrt().clamp_min(1e-12)


def _one_pair_for_each_reader(model: ir.Model) -> dict[str, tuple[str, str]]:
    """The nodes before each pair and behind it, by what the pair's QuantizeLinear writes or, of weights, the latter
    reads."""
    r, found = Rewriter(model), dict[str, tuple[str, str]]()
    for rounds in [n for n in model.graph if n.op_type == "QuantizeLinear"]:
        source, steps = rounds.inputs[0], rounds.inputs[1:]
        assert source is not None
        (restores,) = (use.node for use in rounds.outputs[0].uses())
        reads = list(restores.outputs[0].uses())
        writer = source.producer()
        before = "" if writer is None else str(writer.name)
        found[str(rounds.outputs[0].name)] = before, str(reads[0].node.name) if reads else ""
        for use in reads[1:]:
            written = r.op("QuantizeLinear", [source, *steps], f"{source.name}_q")
            value = r.op("DequantizeLinear", [written, *steps], f"{source.name}_dq")
            for new, old in ((written, rounds.outputs[0]), (value, restores.outputs[0])):
                new.shape, new.type = old.shape, old.type
            use.node.replace_input_with(use.idx, value)
            found[str(written.name)] = before, str(use.node.name)
    for node in model.graph:
        weight = node.inputs[1] if node.op_type in WEIGHTED else None
        if weight is not None:
            found[str(weight.name)] = "", str(node.name)
    r.finish()
    return found
