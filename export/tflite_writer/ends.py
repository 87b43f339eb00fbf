"""Where types change: the frame's bytes in, Q/DQ pairs, labels and logits out."""

from __future__ import annotations

import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import attribute, shape
from edgeseg.export.tflite_writer.arithmetic import quantization, requantize
from edgeseg.export.tflite_writer.flatbuffer import Quantization, Tensor
from edgeseg.export.tflite_writer.graph import Graph, axis_of, stored_shape
from edgeseg.export.tflite_writer.scales import Scales, step

TYPES = {
    ir.DataType.FLOAT: "float32",
    ir.DataType.UINT8: "uint8",
    ir.DataType.INT8: "int8",
    ir.DataType.INT32: "int32",
    ir.DataType.INT64: "int64",
    ir.DataType.BOOL: "bool",
}


def type_of(value: ir.Value) -> str:
    """NumPy's name of the type of ``value``. Raises InputError where it has no place in the file."""
    if value.dtype not in TYPES:
        raise InputError(f"tensor '{value.name}' is {value.dtype}: the tflite target takes {', '.join(TYPES.values())}")
    return TYPES[value.dtype]


def lower_Cast(g: Graph, node: ir.Node, scales: Scales) -> None:
    x, output = g.read(node.inputs[0]), node.outputs[0]
    wanted, tensor = ir.DataType(attribute(node, "to", 0)), x.tensor
    if wanted == ir.DataType.FLOAT and tensor.dtype == "uint8":
        tensor = g.file.renamed(tensor, Quantization((1.0,)))  # these bytes are their own values
    elif tensor.dtype not in ("float32", "int8") or node.inputs[0] is not None and node.inputs[0].dtype == ir.DataType.FLOAT:
        tensor = cast(g, tensor, TYPES[wanted])
    g.place(output, tensor, x.layout)


def cast(g: Graph, x: Tensor, dtype: str) -> Tensor:
    if x.dtype == dtype:
        return x
    options = schema.CastOptionsT()
    options.inDataType, options.outDataType = (getattr(schema.TensorType, t.upper()) for t in (x.dtype, dtype))
    return g.op("CAST", [x], x.shape, options, dtype=dtype)


def lower_QuantizeLinear(g: Graph, node: ir.Node, scales: Scales) -> None:
    assert node.inputs[0] is not None
    x = g.values.get(node.inputs[0]) or g.read(node.inputs[0])
    g.place(node.outputs[0], requantize(g, x.tensor, quantization(step(node))), x.layout)


def lower_DequantizeLinear(g: Graph, node: ir.Node, scales: Scales) -> None:
    """The int8 tensor goes on as it is; kernels read weights themselves."""
    source = node.inputs[0]
    assert source is not None
    if source in g.values:
        step(node)
        g.values[node.outputs[0]] = g.values[source]


def lower_ArgMax(g: Graph, node: ir.Node, scales: Scales) -> None:
    """Of equals the first, as ONNX asks."""
    if attribute(node, "select_last_index", 0):
        raise InputError(f"ArgMax '{node.outputs[0].name}': the last of equals has no TFLite form")
    x = g.read(node.inputs[0])
    axis = attribute(node, "axis", 0) % len(x.layout)
    where = axis_of(node, axis, x.layout)
    kept = [d for d in x.layout if d != axis]
    sizes = [s for i, s in enumerate(x.tensor.shape) if i != where]
    options = schema.ArgMaxOptionsT(outputType=schema.TensorType.INT32)
    best = g.op("ARG_MAX", [x.tensor, g.ints(where)], sizes, options, dtype="int32")
    if attribute(node, "keepdims", 1):
        g.place(node.outputs[0], g.reshape(best, stored_shape(node.outputs[0], x.layout)), x.layout)
    else:
        g.place(node.outputs[0], best, tuple(sorted(kept).index(d) for d in kept))


def output(g: Graph, value: ir.Value) -> Tensor:
    """``value`` as the caller gets it: in ONNX's order and type."""
    shape(value)
    tensor = g.plain(value)
    return g.real(tensor) if value.dtype == ir.DataType.FLOAT else cast(g, tensor, type_of(value))
