"""Small ONNX graphs, and what LiteRT makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx_ir as ir
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edgeseg.export import tflite
from edgeseg.export._exact import Exact
from edgeseg.export.passes._rewrite import Rewriter
from edgeseg.export.tflite_writer import write

Build = Callable[["Net"], ir.Value]


class Net(Rewriter):
    """A graph in the making: ``x`` is its input; weights are drawn from a fixed seed."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.x = ir.Value(name="frame", shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))
        graph = ir.Graph([self.x], [], nodes=[], opset_imports={"": 18}, name="test")
        super().__init__(ir.Model(graph, ir_version=10))
        self.rng = np.random.default_rng(7)

    def o(self, kind: str, *inputs: Any, **attributes: Any) -> ir.Value:
        """An operator; arrays among its inputs become constants."""
        values = [self.const(v, "c") if isinstance(v, np.ndarray) else v for v in inputs]
        return self.op(kind, values, kind.lower(), **attributes)

    def weights(self, *shape: int) -> NDArray[np.float32]:
        return self.rng.normal(0, math.sqrt(2 / math.prod(shape[1:])), shape).astype(np.float32)

    def conv(self, x: ir.Value, inputs: int, outputs: int, kernel: int = 3, **attributes: Any) -> ir.Value:
        """A 3×3 (or other) convolution with bias that keeps the size, unless ``attributes`` say otherwise."""
        attributes = {"pads": [kernel // 2] * 4, "kernel_shape": [kernel] * 2, **attributes}
        bias = 0.1 * self.weights(outputs)
        w = self.weights(outputs, inputs // attributes.get("group", 1), kernel, kernel)
        return self.o("Conv", x, w, bias, **attributes)

    def up(self, x: ir.Value, inputs: int, outputs: int, kernel: int, **attributes: Any) -> ir.Value:
        w = self.weights(outputs, inputs, kernel, kernel).transpose(1, 0, 2, 3)
        return self.o("ConvTranspose", x, w, 0.1 * self.weights(outputs), **attributes)

    def ending(self, y: ir.Value) -> ir.Model:
        """The model whose output is ``y``."""
        self.graph.outputs.append(y)
        self.finish()
        y.name = "logits"
        return self.model


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def slices(x: Any, n: Net, starts: list[int], stops: list[int], axes: list[int], steps: list[int]) -> ir.Value:
    return n.o("Slice", x, *(ints(*v) for v in (starts, stops, axes, steps)))


def run(data: bytes, feeds: dict[str, NDArray[Any]], folder: Path) -> dict[str, NDArray[Any]]:
    (folder / tflite.FILE).write_bytes(data)
    interpreter = Interpreter(str(folder / tflite.FILE), num_threads=2)
    interpreter.allocate_tensors()
    inputs = {d["name"]: d["index"] for d in interpreter.get_input_details()}
    for name, values in feeds.items():
        interpreter.set_tensor(inputs[name], values)
    interpreter.invoke()
    return {d["name"]: interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()}


def compared(model: ir.Model, folder: Path, half: bool = False) -> float:
    """The largest error, relative to the largest value; booleans and integers must be equal."""
    shape = tuple(int(d) for d in model.graph.inputs[0].shape)  # type: ignore[union-attr, arg-type]
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32).round(2)  # so that some are equal
    (want,) = Exact(model).run(cast(Any, x)).values()
    (got,) = run(write(model, half), {"frame": x}, folder).values()
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    if want.dtype != np.float32:
        assert (got == want).all()
        return 0.0
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-30))


def delegates(data: bytes) -> int:
    """How many parts XNNPACK takes the graph in."""
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    return [o["op_name"] for o in interpreter._get_ops_details()].count("DELEGATE")


def wholly_delegated(data: bytes) -> bool:
    """Whether XNNPACK takes every operator."""
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    delegates = [o for o in interpreter._get_ops_details() if o["op_name"] == "DELEGATE"]
    if len(delegates) != 1:
        return False
    ends = [{d["index"] for d in each} for each in (interpreter.get_input_details(), interpreter.get_output_details())]
    return ends[0] <= set(delegates[0]["inputs"]) and ends[1] <= set(delegates[0]["outputs"])
