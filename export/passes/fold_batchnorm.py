"""BatchNormalization disappears into convolutions.

In inference it is y = g·x + b per channel (arXiv:1502.03167, §3.1). Behind a Concat it splits into one per
branch; behind a Conv or ConvTranspose that nothing else reads it scales the kernel and moves the bias;
anywhere else it becomes a 1×1 depthwise Conv, the form that quantizes per channel like any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.export.passes._rewrite import Rewriter, array, attribute, shape, sole_user


def apply(model: ir.Model) -> bool:
    rewriter = Rewriter(model)
    found = [node for node in model.graph if node.op_type == "BatchNormalization"]
    for node in found:
        scale, bias = _affine(node)
        rewriter.replace(node.outputs[0], _fold(rewriter, node.inputs[0], scale, bias))
    if found:
        rewriter.finish()
    return bool(found)


def _affine(node: ir.Node) -> tuple[NDArray[Any], NDArray[Any]]:
    gamma, beta, mean, variance = (np.asarray(array(v), np.float64) for v in node.inputs[1:5])
    scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    return scale, beta - mean * scale


def _fold(r: Rewriter, x: ir.Value | None, scale: NDArray[Any], bias: NDArray[Any]) -> ir.Value:
    assert x is not None
    source = x.producer()
    alone = source is not None and sole_user(x) is not None
    if source is not None and alone and source.op_type == "Concat" and attribute(source, "axis", 0) in (1, -3):
        return _split(r, source, scale, bias)
    if source is not None and alone and source.op_type in ("Conv", "ConvTranspose"):
        return _scale_kernel(r, source, scale, bias)
    name = f"{x.name}_bn"
    kernel = r.const(scale.reshape(-1, 1, 1, 1).astype(np.float32), f"{name}_weight")
    return r.op("Conv", [x, kernel, r.const(bias.astype(np.float32), f"{name}_bias")], name, group=len(scale))


def _split(r: Rewriter, concat: ir.Node, scale: NDArray[Any], bias: NDArray[Any]) -> ir.Value:
    parts, start = [], 0
    for branch in concat.inputs:
        assert branch is not None
        stop = start + shape(branch)[1]
        parts.append(_fold(r, branch, scale[start:stop], bias[start:stop]))
        start = stop
    return r.op("Concat", parts, f"{concat.outputs[0].name}_bn", axis=1)


def _scale_kernel(r: Rewriter, conv: ir.Node, scale: NDArray[Any], bias: NDArray[Any]) -> ir.Value:
    kernel = np.asarray(array(conv.inputs[1]), np.float64)
    if conv.op_type == "Conv":
        kernel = kernel * scale.reshape(-1, 1, 1, 1)
    else:  # kernels are inputs × outputs/group: each group of inputs has its own run of output channels
        group = attribute(conv, "group", 1)
        per_group = scale.reshape(group, 1, -1).repeat(kernel.shape[0] // group, 1)
        kernel = kernel * per_group.reshape(kernel.shape[0], kernel.shape[1], 1, 1)
    old = array(conv.inputs[2]) if len(conv.inputs) > 2 else None
    total = bias if old is None else bias + old * scale
    name = str(conv.outputs[0].name)
    inputs = [conv.inputs[0], r.const(kernel.astype(np.float32), f"{name}_weight")]
    inputs.append(r.const(total.astype(np.float32), f"{name}_bias"))
    return r.op(conv.op_type, inputs, f"{name}_bn", **{k: a.value for k, a in conv.attributes.items()})
