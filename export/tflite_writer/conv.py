"""Conv and ConvTranspose: kernels in TFLite's order, activations fused, int8 scales per output channel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, attribute, shape
from edgeseg.export.tflite_writer.activation import fuse
from edgeseg.export.tflite_writer.flatbuffer import Quantization, Tensor
from edgeseg.export.tflite_writer.graph import Graph, stored_shape
from edgeseg.export.tflite_writer.padding import SAME, VALID, cut, pads_of, resolve, windows

INT32 = np.iinfo(np.int32)


def lower_Conv(g: Graph, node: ir.Node) -> None:
    x, kernel = g.nhwc(node.inputs[0]), Kernel.of(node, axis=0)
    depthwise = attribute(node, "group", 1) == x.shape[3] > 1
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    x, options.padding = resolve(g, x, windows(node, kernel.values.shape[2:]))
    options.fusedActivationFunction, output = fuse(g, node)
    options.strideH, options.strideW = attribute(node, "strides", (1, 1))
    options.dilationHFactor, options.dilationWFactor = attribute(node, "dilations", (1, 1))
    if depthwise:
        options.depthMultiplier = kernel.values.shape[0] // x.shape[3]
    out = g.quantization(output, x)
    inputs = [x, *kernel.tensors(g, x, (1, 2, 3, 0) if depthwise else (0, 2, 3, 1))]
    kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    g.place(output, g.op(kind, inputs, stored_shape(output), options, out))


def lower_ConvTranspose(g: Graph, node: ir.Node) -> None:
    if attribute(node, "group", 1) != 1 or set(attribute(node, "dilations", (1, 1))) != {1}:
        raise InputError(f"ConvTranspose '{node.outputs[0].name}': groups and dilation have no TFLite form")
    x, kernel = g.nhwc(node.inputs[0]), Kernel.of(node, axis=1)
    along = [Reach.of(node, i, kernel.values.shape[2 + i]) for i in range(2)]
    margins = [reach.margin for reach in along if reach.margin is not None]
    same = len(margins) == 2
    if same:
        kernel = replace(kernel, values=np.pad(kernel.values, [(0, 0), (0, 0), *margins]))
    options = schema.TransposeConvOptionsT(padding=SAME if same else VALID)
    options.fusedActivationFunction, output = fuse(g, node)
    options.strideH, options.strideW = attribute(node, "strides", (1, 1))
    n, h, w, c = stored_shape(output)
    sizes = (n, h, w, c) if same else (n, along[0].full, along[1].full, c)
    weights, bias = kernel.tensors(g, x, (1, 2, 3, 0))
    inputs = [g.ints(sizes), weights, x, bias]
    out = g.quantization(output, x)
    result = g.op("TRANSPOSE_CONV", inputs, sizes, options, out, x.dtype)
    for axis, reach in enumerate(along, start=1):
        result = cut(g, result, axis, 0 if same else reach.before, reach.out)
    g.place(output, result)


@dataclass(frozen=True)
class Kernel:
    """``values`` as ONNX orders them: float32, or int8 with ``scale`` for each output channel, which
    dimension ``axis`` counts; ``bias`` float32 for each output channel."""

    name: str
    values: NDArray[Any]
    scale: NDArray[np.float32] | None
    bias: NDArray[np.float32]
    axis: int

    @classmethod
    def of(cls, node: ir.Node, axis: int) -> Kernel:
        name = f"{node.op_type} '{node.outputs[0].name}'"
        bias = array(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(shape(node.outputs[0])[1])
        source = node.inputs[1].producer() if node.inputs[1] is not None else None
        if source is not None and source.op_type == "DequantizeLinear":
            values, scale = array(source.inputs[0]), array(source.inputs[1])
        else:
            values, scale = array(node.inputs[1]), None
        if values is None or bias is None:
            raise InputError(f"{name}: its weights and bias must be constant")
        return cls(name, values, scale, bias.astype(np.float32), axis)

    def tensors(self, g: Graph, x: Tensor, order: tuple[int, ...]) -> list[Tensor]:
        """Weights with their dimensions in TFLite's ``order``, and bias, in the arithmetic of ``x``."""
        values = self.values.transpose(order)
        steps = None if self.scale is None else np.broadcast_to(self.scale, self.bias.shape)
        where = order.index(self.axis)
        if x.dtype == "int8":
            return self._int8(g, x, values, steps, where)
        if steps is not None:
            values = values * steps.reshape([-1 if d == where else 1 for d in range(4)])
        return [g.weight(values.astype(np.float32)), g.file.constant(self.bias)]

    def _int8(
        self, g: Graph, x: Tensor, values: NDArray[Any], steps: NDArray[np.float32] | None, where: int
    ) -> list[Tensor]:
        if steps is None:
            raise InputError(f"int8: {self.name} reads int8, but its weights are float: quantize them too")
        product = steps * np.float32(x.scale)
        bias = np.clip(np.round(self.bias / product.astype(np.float64)), INT32.min, INT32.max)
        return [
            g.file.constant(values, Quantization(tuple(steps.tolist()), axis=where)),
            g.file.constant(bias.astype(np.int32), Quantization(tuple(product.tolist()))),
        ]


@dataclass(frozen=True)
class Reach:
    """A transposed convolution along one axis: its ``natural`` length, of which ``before`` is cut off."""

    length: int
    out: int
    natural: int
    stride: int
    before: int

    @classmethod
    def of(cls, node: ir.Node, i: int, kernel: int) -> Reach:
        assert node.inputs[0] is not None
        stride = attribute(node, "strides", (1, 1))[i]
        length, out = shape(node.inputs[0])[2 + i], shape(node.outputs[0])[2 + i]
        return cls(length, out, (length - 1) * stride + kernel, stride, pads_of(node)[i])

    @property
    def full(self) -> int:
        """The length to compute where only a slice behind cuts."""
        return max(self.natural, self.before + self.out)

    @property
    def margin(self) -> tuple[int, int] | None:
        """Zeros to put before and after the kernel so that SAME cuts what is to be cut, or None."""
        if self.length != -(-self.out // self.stride):
            return None
        after = self.natural - self.before - self.out
        return (0, self.before - after) if after <= self.before else (after - self.before - 1, 0)
