"""A graph in half precision, for a TensorRT that takes its types from the graph: weights and activations in float16,
but for the nodes that would overflow there, and both ends.

Which nodes overflow is measured: the float graph runs on frames, and a node stays in float32 where anything that it
reads or writes, or the sum behind a mean, comes within ``HEADROOM`` of the largest float16. The headroom is for frames
that were not measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.datasets import open_dataset
from edgeseg.export._exact import Exact
from edgeseg.export.passes._rewrite import Rewriter, array, shape
from edgeseg.export.quantize.plan import INPUT

LARGEST = 65504.0
HEADROOM = 4.0
SUMS = ("ReduceMean", "GlobalAveragePool", "AveragePool", "ReduceSum", "Softmax")
STAY = ("Cast", "QuantizeLinear", "DequantizeLinear")  # what they convert between is their meaning
FLOAT_INPUTS = {"Resize": (1, 2)}  # scales and region are float32 in every type
FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16


def frames(size: tuple[int, ...], count: int = 2) -> Iterator[NDArray[np.uint8]]:
    """What a graph is measured on, uint8 ``size`` (1×H×W×3) each: drawn streets, black, white, noise."""
    streets = open_dataset(f"streets:{count}@{size[1]}x{size[2]}")
    yield from (streets[i].frame[None] for i in range(count))
    yield from (np.full(size, grey, np.uint8) for grey in (0, 255))
    yield np.random.default_rng(0).integers(0, 256, size, np.uint8)


def overflowing(model: ir.Model, frames: Iterable[NDArray[np.uint8]]) -> set[str]:
    """Names of the nodes of the float ``model`` that must stay in float32, as measured on ``frames``."""
    peaks = _peaks(model, frames)
    limit = LARGEST / HEADROOM
    return {str(node.name) for node in model.graph if any(not peak < limit for peak in _of(node, peaks))}


def _peaks(model: ir.Model, frames: Iterable[NDArray[np.uint8]]) -> dict[str, float]:
    """The largest magnitude of every float tensor. Only maxima leave the graph: the tensors may fill memory."""
    model = model.clone()
    r, found = Rewriter(model), {}
    for node in list(model.graph):
        for value in node.outputs:
            if value.dtype == FLOAT:
                magnitude = r.op("Abs", [value], f"{value.name}_abs")
                found[str(value.name)] = r.op("ReduceMax", [magnitude], f"{value.name}_peak", keepdims=0)
    peaks = {
        name: float(np.abs(tensor.numpy()).max(initial=0))
        for name, value in model.graph.initializers.items()
        if (tensor := value.const_value) is not None and value.dtype == FLOAT
    }
    names = {}
    for name, value in found.items():
        value.shape, value.dtype = ir.Shape([]), FLOAT
        names[str(value.name)] = name
    model.graph.outputs[:] = list(found.values())
    r.finish()
    engine = Exact(model)
    for frame in frames:
        for output, peak in engine.run(frame).items():
            name = names[output]
            peaks[name] = max(peaks.get(name, 0.0), np.inf if np.isnan(peak) else float(peak))
    return peaks


def _of(node: ir.Node, peaks: dict[str, float]) -> Iterator[float]:
    for i, value in enumerate((*node.inputs, *node.outputs)):
        if value is not None and i not in FLOAT_INPUTS.get(node.op_type, ()):
            yield peaks.get(str(value.name), 0.0)
    if node.op_type in SUMS and node.inputs[0] is not None:
        terms = prod(shape(node.inputs[0])) / prod(shape(node.outputs[0]))
        yield terms * peaks.get(str(node.outputs[0].name), 0.0)


def apply(model: ir.Model, keep: set[str]) -> None:
    """Convert ``model`` in place; nodes named in ``keep``, the frame's normalisation and the outputs stay float32."""
    _Half(model, keep).run()


class _Half:
    def __init__(self, model: ir.Model, keep: set[str]) -> None:
        self.r, self.keep = Rewriter(model), keep
        self.halves: dict[str, ir.Value] = {}

    def run(self) -> None:
        graph = self.r.graph
        nodes = [node for node in _behind_the_input(graph) if self._converts(node)]
        outputs = {value: str(value.name) for value in graph.outputs}
        for node in nodes:
            for i, value in enumerate(node.inputs):
                if value is not None and value.dtype == FLOAT and i not in FLOAT_INPUTS.get(node.op_type, ()):
                    node.replace_input_with(i, self._half(value))
            for value in node.outputs:
                if value.dtype == FLOAT:
                    value.type = ir.TensorType(HALF)  # not value.dtype: values, clones too, share their type
        converted = set(nodes)
        for node in nodes:
            for value in node.outputs:
                if value.dtype == HALF:
                    self._widen(value, converted, outputs)
        self.r.finish()

    def _converts(self, node: ir.Node) -> bool:
        floats = [v for v in (*node.inputs, *node.outputs) if v is not None and v.dtype == FLOAT]
        return bool(floats) and node.op_type not in STAY and str(node.name) not in self.keep

    def _half(self, value: ir.Value) -> ir.Value:
        """``value`` in half precision, for a node that reads it."""
        name = str(value.name)
        if name not in self.halves:
            constant = array(value)
            if constant is not None:
                with np.errstate(over="ignore"):
                    self.halves[name] = self.r.const(constant.astype(np.float16), f"{name}_half")
            else:
                self.halves[name] = self.r.op("Cast", [value], f"{name}_half", to=HALF)
                self.halves[name].shape, self.halves[name].type = value.shape, ir.TensorType(HALF)
        return self.halves[name]

    def _widen(self, value: ir.Value, converted: set[ir.Node], outputs: dict[ir.Value, str]) -> None:
        """Readers of ``value`` that stay in float32, as a graph output too, get it cast back."""
        wanting = [use for use in value.uses() if use.node not in converted]
        if not wanting and value not in outputs:
            return
        name = str(value.name)
        if value in outputs:
            value.name = f"{name}_half"
        wide: Any = self.r.op("Cast", [value], name if value in outputs else f"{name}_float", to=FLOAT)
        wide.shape, wide.type = value.shape, ir.TensorType(FLOAT)
        if value in outputs:
            wide.name = name
            outputs_list = self.r.graph.outputs
            outputs_list[list(outputs_list).index(value)] = wide
        for use in wanting:
            use.node.replace_input_with(use.idx, wide)


def _behind_the_input(graph: ir.Graph) -> list[ir.Node]:
    """The nodes behind the normalised frame: before it, all of a byte's values count."""
    nodes = list(graph)
    names = [node.outputs[0].name for node in nodes]
    return nodes[names.index(INPUT) + 1 :] if INPUT in names else nodes
