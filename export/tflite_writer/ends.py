"""Where types change: the frame's bytes in, Q/DQ pairs, labels and logits out."""

from __future__ import annotations

import onnx_ir as ir

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import attribute, shape
from edgeseg.export.tflite_writer.arithmetic import requantize
from edgeseg.export.tflite_writer.flatbuffer import Quantization, Tensor
from edgeseg.export.tflite_writer.graph import NHWC, Graph, Placed, axis_of, onnx_order, stored_shape
from edgeseg.export.tflite_writer.scales import step
from edgeseg.export.tflite_writer.schema import schema

TYPES = {
    ir.DataType.FLOAT: "float32",
    ir.DataType.UINT8: "uint8",
    ir.DataType.INT8: "int8",
    ir.DataType.INT32: "int32",
    ir.DataType.INT64: "int64",
    ir.DataType.BOOL: "bool",
}


def place_input(g: Graph, value: ir.Value) -> None:
    """The caller's tensor, as ONNX orders it; an N×C×H×W one is turned at once."""
    sizes, name = shape(value), str(value.name)
    g.inputs[name] = g.file.tensor(name, sizes, _type(value.dtype))
    placed = Placed(g.inputs[name], onnx_order(len(sizes)))
    if value.dtype == ir.DataType.FLOAT and len(sizes) == 4:
        placed = Placed(g.ordered(placed, NHWC), NHWC)
    g.values[value] = placed


def output(g: Graph, value: ir.Value) -> Tensor:
    """``value`` as the caller gets it: in ONNX's order and type."""
    tensor = g.plain(value)
    return g.real(tensor) if value.dtype == ir.DataType.FLOAT else _cast(g, tensor, _type(value.dtype))


def _type(dtype: ir.DataType | None) -> str:
    if dtype not in TYPES:
        raise InputError(f"the tflite target takes {', '.join(TYPES.values())}, not {dtype}")
    return TYPES[dtype]


def lower_Cast(g: Graph, node: ir.Node) -> None:
    x, source = g.read(node.inputs[0]), node.inputs[0]
    assert source is not None
    tensor, wanted = x.tensor, ir.DataType(attribute(node, "to", 0))
    if tensor.dtype == "uint8" and wanted == ir.DataType.FLOAT:
        tensor = g.file.renamed(tensor, Quantization((1.0,)))  # bytes that stand for themselves
    elif tensor.dtype not in ("float32", "int8") or source.dtype == ir.DataType.FLOAT:
        tensor = _cast(g, tensor, _type(wanted))  # a number stays one
    g.place(node.outputs[0], tensor, x.layout)


def _cast(g: Graph, x: Tensor, dtype: str) -> Tensor:
    if x.dtype == dtype:
        return x
    before, after = (getattr(schema.TensorType, t.upper()) for t in (x.dtype, dtype))
    return g.op("CAST", [x], x.shape, schema.CastOptionsT(inDataType=before, outDataType=after), dtype=dtype)


def lower_QuantizeLinear(g: Graph, node: ir.Node) -> None:
    x = g.stored(node.inputs[0])
    g.place(node.outputs[0], requantize(g, x.tensor, step(node)), x.layout)


def lower_DequantizeLinear(g: Graph, node: ir.Node) -> None:
    """The int8 tensor goes on as it is; weights are read where they are used."""
    source, output = node.inputs[0], node.outputs[0]
    if source in g.values:
        if g.values[source].tensor.quantization != step(node):
            raise InputError(f"'{output.name}' is dequantized with another scale than it was quantized with")
        g.values[output] = g.values[source]


def lower_ArgMax(g: Graph, node: ir.Node) -> None:
    """Of equals the first, as ONNX asks."""
    if attribute(node, "select_last_index", 0):
        raise InputError(f"ArgMax '{node.outputs[0].name}': the last of equals has no TFLite form")
    x = g.read(node.inputs[0])
    axis = attribute(node, "axis", 0) % len(x.layout)
    kept = [d for d in x.layout if d != axis]
    sizes = [size for size, d in zip(x.tensor.shape, x.layout, strict=True) if d != axis]
    options = schema.ArgMaxOptionsT(outputType=schema.TensorType.INT32)
    best = g.op("ARG_MAX", [x.tensor, g.ints(axis_of(axis, x.layout))], sizes, options, dtype="int32")
    if attribute(node, "keepdims", 1):
        g.place(node.outputs[0], g.reshape(best, stored_shape(node.outputs[0], x.layout)), x.layout)
    else:
        g.place(node.outputs[0], best, tuple(sorted(kept).index(d) for d in kept))
