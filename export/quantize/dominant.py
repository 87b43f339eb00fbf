"""Which layers bring much of the noise of int8 for little of the work: by default these stay in float."""

from __future__ import annotations

from collections.abc import Sequence

from edgeseg.export.quantize.layer import Layer

TIMES = 0.3  # so many times the part of the noise as of what a layer costs
WORK = 0.05  # no more of the network's than that


def dominant(layers: Sequence[Layer]) -> dict[str, str]:
    """Their names, in the graph's order, and why. A layer costs its share of the work, and being one of ``layers``."""
    total = sum(layer.noise for layer in layers)
    if not total:
        return {}
    gain = {layer.name: layer.noise / total / (layer.work + 1 / len(layers)) for layer in layers}
    found, work = set[str](), 0.0
    for layer in sorted(layers, key=lambda layer: -gain[layer.name]):
        if gain[layer.name] >= TIMES and work + layer.work <= WORK:
            work += layer.work
            found.add(layer.name)
    return {
        layer.name: f"brings {layer.noise / total:.1%} of the noise for {layer.work:.1%} of the work"
        for layer in layers
        if layer.name in found
    }
