"""What each layer costs in int8: the noise that it alone brings to the network's answer, all others in float."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.export._exact import Exact, last_floats
from edgeseg.export.passes._rewrite import array, shape
from edgeseg.export.quantize.plan import WEIGHTED, Plan


@dataclass(frozen=True)
class Layer:
    """``name``: its output tensor's, as in the manifest's ``float_layers``. ``work``: its share of the network's
    multiply-adds and elementwise operations, 0 to 1. ``noise``: power relative to the answer's, summed over outputs."""

    name: str
    operators: str
    work: float
    noise: float

    @property
    def db(self) -> float:
        """The answer's SQNR where this layer alone is in int8."""
        return math.inf if self.noise == 0 else -10 * math.log10(self.noise)


def sensitivity(
    model: ir.Model,
    quantized: Callable[[Collection[str]], ir.Model],
    frames: Sequence[NDArray[np.uint8]],
    done: Callable[[], None] = lambda: None,
) -> list[Layer]:
    """Every layer of the clean float ``model`` in the graph's order. ``quantized(keep)`` gives its Q/DQ graph with the
    layers ``keep`` in float; each is a graph of its own, in plain float arithmetic. ``frames`` are uint8 H×W×3 each;
    ``done`` is called after each layer."""
    layers = Plan(model).layers()
    exact = _answers(model, frames)
    work = {name: sum(map(_operations, nodes)) for name, nodes in layers.items()}
    total = sum(work.values())
    found = []
    for name, nodes in layers.items():
        rounded = _answers(quantized([other for other in layers if other != name]), frames)
        noise = sum(_noise(a, b) for a, b in zip(exact, rounded, strict=True))
        found.append(Layer(name, "+".join(n.op_type for n in nodes), work[name] / total, noise / len(frames)))
        done()
    return found


def noise(model: ir.Model, rounded: ir.Model, frames: Sequence[NDArray[np.uint8]]) -> float:
    """What ``rounded`` adds to the answers of ``model``, as a layer's."""
    pairs = zip(_answers(model, frames), _answers(rounded, frames), strict=True)
    return sum(_noise(a, b) for a, b in pairs) / len(frames)


def _answers(model: ir.Model, frames: Sequence[NDArray[np.uint8]]) -> list[NDArray[Any]]:
    exact = Exact(model, last_floats(model))
    return [answer for frame in frames for answer in exact.run(frame[None]).values()]


def _noise(exact: NDArray[Any], rounded: NDArray[Any]) -> float:
    power = float(np.square(exact, dtype=np.float64).mean())
    return float(np.square(exact - rounded, dtype=np.float64).mean()) / power if power else 0.0


def _operations(node: ir.Node) -> int:
    """Multiply-adds; of what has no weights, its output's elements."""
    out = math.prod(shape(node.outputs[0]))
    weights = array(node.inputs[1]) if node.op_type in WEIGHTED else None
    if weights is None:
        return out
    if node.op_type == "ConvTranspose":
        source = node.inputs[0]
        assert source is not None
        return int(math.prod(shape(source)) * weights[0].size)
    taps: int = weights[..., 0].size if node.op_type in ("MatMul", "Gemm") else weights[0].size
    return out * taps
