"""int8 weights become float weights with a Q/DQ pair of the same scale: the form that TensorRT 8 documents.

The float weight is step · scale, and quantizing it gives the step back: float32 is off by less than 2⁻²² of at most
128 steps, far from the half step that would change one.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeseg.export.passes._rewrite import Rewriter, array, attribute


def apply(model: ir.Model) -> bool:
    rewriter = Rewriter(model)
    found = [n for n in model.graph if n.op_type == "DequantizeLinear" and _is_int8(array(n.inputs[0]))]
    for node in found:
        steps, scale = np.asarray(array(node.inputs[0])), np.asarray(array(node.inputs[1]), np.float32)
        assert node.inputs[0] is not None
        axis = attribute(node, "axis", 1)
        along = scale.reshape([-1 if a == axis else 1 for a in range(steps.ndim)]) if scale.size > 1 else scale
        weight = rewriter.const(steps.astype(np.float32) * along, f"{node.inputs[0].name}_float")
        pair = rewriter.op("QuantizeLinear", [weight, *node.inputs[1:]], f"{node.inputs[0].name}_q", axis=axis)
        pair.dtype = ir.DataType.INT8
        node.replace_input_with(0, pair)
    if found:
        rewriter.finish()
    return bool(found)


def _is_int8(values: object) -> bool:
    return isinstance(values, np.ndarray) and values.dtype == np.int8
