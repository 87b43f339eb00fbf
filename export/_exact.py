"""A graph in plain float arithmetic, node by node: the yardstick of every engine made from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray


class Exact:
    """ONNX Runtime with all optimisation off: a Q/DQ pair rounds, and everything between pairs is float32. It gives the
    graph's outputs, or the tensors ``names`` of a model at hand."""

    def __init__(self, model: ir.Model | Path, names: Sequence[str] = ()) -> None:
        source = str(model) if isinstance(model, Path) else with_outputs(model, names).SerializeToString()
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self._names = [*names] or [o.name for o in self._session.get_outputs()]

    def run(self, frame: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """``frame`` uint8 N×H×W×3 → the tensors by name."""
        return dict(zip(self._names, self._session.run(self._names, {"frame": frame}), strict=True))

    def answer(self, frame: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """``frame`` uint8 H×W×3 → the tensors by name, with the batch axis."""
        return self.run(frame[None])


def with_outputs(model: ir.Model, names: Sequence[str]) -> onnx.ModelProto:
    """``model`` that also gives the tensors ``names``."""
    proto = ir.to_proto(model)
    have = {o.name for o in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in have)
    return proto


def run_exactly(model: ir.Model, frame: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    return Exact(model).run(frame)


def last_floats(model: ir.Model) -> list[str]:
    """The tensors that the outputs of ``model`` are or, of labels, are chosen from; each once."""
    found = dict[str, None]()
    for value in model.graph.outputs:
        while (
            value.dtype != ir.DataType.FLOAT and (node := value.producer()) is not None and node.inputs[0] is not None
        ):
            value = node.inputs[0]
        found[str(value.name)] = None
    return list(found)
