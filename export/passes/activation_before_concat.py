"""An activation behind a Concat moves into its branches, so that it stands right behind their convolutions,
where every engine fuses the two and where int8 needs no tensor between them."""

from __future__ import annotations

import onnx_ir as ir

from edgeseg.export.passes._rewrite import Rewriter, array, attribute, shape, sole_user

ELEMENTWISE = ("Relu", "PRelu", "LeakyRelu", "Clip", "Sigmoid")


def apply(model: ir.Model) -> bool:
    rewriter = Rewriter(model)
    found = [node for node in model.graph if node.op_type in ELEMENTWISE and _source(node) is not None]
    for node in found:
        source = _source(node)
        assert source is not None
        rewriter.replace(node.outputs[0], _move(rewriter, node, source))
    if found:
        rewriter.finish()
    return bool(found)


def _source(node: ir.Node) -> ir.Node | None:
    """The channel Concat that feeds only ``node``."""
    x = node.inputs[0]
    source = x.producer() if x is not None and sole_user(x) is not None else None
    return source if source and source.op_type == "Concat" and attribute(source, "axis", 0) in (1, -3) else None


def _move(r: Rewriter, node: ir.Node, concat: ir.Node) -> ir.Value:
    name, parts, start = str(node.outputs[0].name), [], 0
    slopes = array(node.inputs[1]) if node.op_type == "PRelu" else None
    for branch in concat.inputs:
        assert branch is not None
        stop = start + shape(branch)[1]
        rest = list(node.inputs[1:])
        if slopes is not None and slopes.size > 1:
            rest = [r.const(slopes.reshape(-1, 1, 1)[start:stop], f"{name}_slope")]
        attributes = {k: a.value for k, a in node.attributes.items()}
        parts.append(r.op(node.op_type, [branch, *rest], f"{name}_part", **attributes))
        start = stop
    return r.op("Concat", parts, f"{name}_joined", axis=1)
