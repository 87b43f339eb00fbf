"""Casts between uint8 and other integers go by float32, since TensorRT converts uint8 from and to floats alone.

float32 holds every integer of a byte, so nothing rounds.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeseg.export.passes._rewrite import Rewriter, attribute

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


def apply(model: ir.Model) -> bool:
    rewriter = Rewriter(model)
    found = [node for node in model.graph if node.op_type == "Cast" and _between_integers(node)]
    for node in found:
        x, output = node.inputs[0], node.outputs[0]
        wide = rewriter.op("Cast", [x], f"{output.name}_float", to=ir.DataType.FLOAT)
        narrow = rewriter.op("Cast", [wide], f"{output.name}_cast", to=attribute(node, "to", 0))
        narrow.shape, narrow.type = output.shape, output.type
        rewriter.replace(output, narrow)
    if found:
        rewriter.finish()
    return bool(found)


def _between_integers(node: ir.Node) -> bool:
    assert node.inputs[0] is not None
    before, after = node.inputs[0].dtype, ir.DataType(attribute(node, "to", 0))
    return ir.DataType.UINT8 in (before, after) and before not in FLOATS and after not in FLOATS
