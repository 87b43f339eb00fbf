"""Writes an ONNX graph of static shapes as a TFLite flatbuffer, without TensorFlow.

One ``lower_<operator>`` for each ONNX operator, found by its name in the modules below.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import onnx_ir as ir

from edgeseg.errors import InputError
from edgeseg.export.tflite_writer import (
    activation,
    conv,
    elementwise,
    ends,
    logic,
    matmul,
    movement,
    pool,
    resize,
    slices,
)
from edgeseg.export.tflite_writer.graph import Graph
from edgeseg.export.tflite_writer.scales import Scales, in_float

MODULES: tuple[ModuleType, ...] = (conv, matmul, activation, elementwise, pool, movement, slices, resize, logic, ends)


def write(model: ir.Model, half: bool = False) -> bytes:
    """The flatbuffer of ``model``: float, or int8 where its tensors stand between Q/DQ pairs.

    ``half`` stores convolution weights in float16. Input and output tensors keep their ONNX names.

    Raises:
        InputError: an operator or attribute without a TFLite form, a dynamic shape, or a missing int8 scale.
    """
    g = Graph(Scales(model), half)
    for value in model.graph.inputs:
        ends.place_input(g, value)
    for node in model.graph:
        if node not in g.done:
            with g.as_real(node.inputs if in_float(node) else ()):
                _lowering(node)(g, node)
    return g.file.finish(g.inputs, {str(v.name): ends.output(g, v) for v in model.graph.outputs})


def _lowering(node: ir.Node) -> Callable[[Graph, ir.Node], None]:
    for module in MODULES:
        if node.domain == "" and hasattr(module, f"lower_{node.op_type}"):
            found: Callable[[Graph, ir.Node], None] = getattr(module, f"lower_{node.op_type}")
            return found
    raise InputError(
        f"operator {node.op_type} ('{node.outputs[0].name}') has no TFLite form here: build another target,"
        " or export the network without it"
    )
