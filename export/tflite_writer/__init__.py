"""Writes an ONNX graph of static shapes as a TFLite flatbuffer, without TensorFlow.

One ``lower_<operator>`` for each ONNX operator, found by its name in the modules below.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import onnx_ir as ir

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import shape
from edgeseg.export.tflite_writer import activation, conv, elementwise, ends, logic, movement, pool, resize
from edgeseg.export.tflite_writer.graph import Graph
from edgeseg.export.tflite_writer.scales import Scales

MODULES: tuple[ModuleType, ...] = (conv, activation, elementwise, pool, movement, resize, logic, ends)


def write(model: ir.Model, half: bool = False) -> bytes:
    """The flatbuffer of ``model``: float, or int8 where its tensors stand between Q/DQ pairs.

    ``half`` stores convolution weights in float16. Input and output tensors keep their ONNX names.

    Raises:
        InputError: an operator or attribute without a TFLite form, a dynamic shape, or a missing int8 scale.
    """
    g, scales = Graph(half), Scales(model)
    for value in model.graph.inputs:
        g.inputs[str(value.name)] = g.file.tensor(str(value.name), shape(value), ends.type_of(value))
        g.place(value, g.inputs[str(value.name)], tuple(range(len(shape(value)))))
    for node in model.graph:
        if node not in g.done:
            _lowering(node)(g, node, scales)
    return g.file.finish(g.inputs, {str(v.name): ends.output(g, v) for v in model.graph.outputs})


def _lowering(node: ir.Node) -> Callable[[Graph, ir.Node, Scales], None]:
    for module in MODULES:
        if node.domain == "" and hasattr(module, f"lower_{node.op_type}"):
            found: Callable[[Graph, ir.Node, Scales], None] = getattr(module, f"lower_{node.op_type}")
            return found
    raise InputError(
        f"operator {node.op_type} ('{node.outputs[0].name}') has no TFLite form here: build another target,"
        " or export the network without it"
    )
