"""Conv and ConvTranspose: kernels in TFLite's order, activations fused, int8 with one scale per output channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, attribute, shape
from edgeseg.export.tflite_writer.activation import fuse
from edgeseg.export.tflite_writer.arithmetic import quantization
from edgeseg.export.tflite_writer.flatbuffer import Quantization, Tensor
from edgeseg.export.tflite_writer.graph import NHWC, Graph, stored_shape
from edgeseg.export.tflite_writer.padding import VALID, cut, resolve, windows
from edgeseg.export.tflite_writer.scales import Scales

INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class Kernel:
    """Weights: float32, or int8 with ``scale`` for each output channel, which dimension ``axis`` counts."""

    values: NDArray[np.float32] | NDArray[np.int8]
    scale: NDArray[np.float32] | None

    @classmethod
    def of(cls, node: ir.Node) -> Kernel:
        value = node.inputs[1]
        assert value is not None
        source = value.producer()
        if source is not None and source.op_type == "DequantizeLinear":
            values, scale = array(source.inputs[0]), array(source.inputs[1])
            if values is not None and scale is not None:
                return cls(values, scale.astype(np.float32).ravel())
        values = array(value)
        if values is None:
            raise InputError(f"{node.op_type} '{node.outputs[0].name}': its weights are not constant")
        return cls(values.astype(np.float32), None)

    def real(self, axis: int) -> NDArray[np.float32]:
        if self.scale is None:
            return self.values.astype(np.float32)
        steps = self.scale.reshape([-1 if d == axis else 1 for d in range(self.values.ndim)])
        return self.values.astype(np.float32) * steps


def lower_Conv(g: Graph, node: ir.Node, scales: Scales) -> None:
    x, kernel = g.nhwc(node.inputs[0]), Kernel.of(node)
    group, channels = attribute(node, "group", 1), x.shape[3]
    depthwise = group == channels and group > 1
    order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    x, padding = resolve(g, x, windows(node, kernel.values.shape[2:]))
    activation, output = fuse(g, node)
    strides, dilations = attribute(node, "strides", (1, 1)), attribute(node, "dilations", (1, 1))
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    options.padding, options.fusedActivationFunction = padding, activation
    options.strideH, options.strideW = strides
    options.dilationHFactor, options.dilationWFactor = dilations
    if depthwise:
        options.depthMultiplier = kernel.values.shape[0] // channels
    weights, bias, out = _parameters(g, x, node, kernel, order, 0, scales, output)
    kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    g.place(output, g.op(kind, [x, weights, bias], stored_shape(output, NHWC), options, x.dtype, out))


def lower_ConvTranspose(g: Graph, node: ir.Node, scales: Scales) -> None:
    if attribute(node, "group", 1) != 1 or set(attribute(node, "dilations", (1, 1))) != {1}:
        raise InputError(f"ConvTranspose '{node.outputs[0].name}': groups and dilation have no TFLite form")
    x, kernel = g.nhwc(node.inputs[0]), Kernel.of(node)
    along = [_Reach.of(node, i, kernel.values.shape[2 + i]) for i in range(2)]
    same = all(r.extension is not None for r in along)
    if same:
        kernel = Kernel(np.pad(kernel.values, [(0, 0), (0, 0), *(r.extension or (0, 0) for r in along)]), kernel.scale)
    activation, output = fuse(g, node)
    n, h, w, c = stored_shape(output, NHWC)
    sizes = (n, h, w, c) if same else (n, along[0].full, along[1].full, c)
    options = schema.TransposeConvOptionsT(fusedActivationFunction=activation)
    options.padding = schema.Padding.SAME if same else VALID
    options.strideH, options.strideW = attribute(node, "strides", (1, 1))
    weights, bias, out = _parameters(g, x, node, kernel, (1, 2, 3, 0), 1, scales, output)
    inputs = [g.ints(sizes), weights, x, bias]
    result = g.op("TRANSPOSE_CONV", inputs, sizes, options, x.dtype, out)
    for i, reach in enumerate(along):
        result = cut(g, result, 1 + i, 0 if same else reach.before, (h, w)[i])
    g.place(output, result)


@dataclass(frozen=True)
class _Reach:
    """A transposed convolution along one axis: its ``natural`` length, of which ``before`` is cut off."""

    length: int
    out: int
    natural: int
    stride: int
    before: int

    @classmethod
    def of(cls, node: ir.Node, i: int, kernel: int) -> _Reach:
        assert node.inputs[0] is not None
        if attribute(node, "auto_pad", "NOTSET") != "NOTSET" or "output_shape" in node.attributes:
            raise InputError(f"ConvTranspose '{node.outputs[0].name}': give its pads; auto_pad has no TFLite form")
        stride = attribute(node, "strides", (1, 1))[i]
        length, out = shape(node.inputs[0])[2 + i], shape(node.outputs[0])[2 + i]
        return cls(length, out, (length - 1) * stride + kernel, stride, attribute(node, "pads", (0, 0, 0, 0))[i])

    @property
    def full(self) -> int:
        """The length to compute where nothing is cut off but by a slice behind."""
        return max(self.natural, self.before + self.out)

    @property
    def extension(self) -> tuple[int, int] | None:
        """Zeros to add before and after the kernel so that SAME cuts off what is to be cut off, or None."""
        if self.length != -(-self.out // self.stride):
            return None
        after = self.natural - self.before - self.out
        return (0, self.before - after) if after <= self.before else (after - self.before - 1, 0)


def _parameters(
    g: Graph, x: Tensor, node: ir.Node, kernel: Kernel, order: tuple[int, ...], axis: int, scales: Scales,
    output: ir.Value,
) -> tuple[Tensor, Tensor, Quantization | None]:  # fmt: skip
    """Weights in TFLite's dimension ``order``, bias, and the output's quantization."""
    given = array(node.inputs[2]) if len(node.inputs) > 2 else None
    count = shape(node.outputs[0])[1]
    bias = np.zeros(count, np.float32) if given is None else given.astype(np.float32)
    if x.dtype != "int8":
        return g.weight(kernel.real(axis).transpose(order)), g.file.constant(bias), None
    if kernel.scale is None:
        raise InputError(f"int8: {node.op_type} '{node.outputs[0].name}' reads int8 but its weights are float")
    steps = np.broadcast_to(kernel.scale, count)
    stored = Quantization(tuple(steps.tolist()), axis=order.index(axis))
    product = steps.astype(np.float64) * x.scale
    summed = np.clip(np.round(bias / product), INT32.min, INT32.max).astype(np.int32)
    bias_tensor = g.file.constant(summed, Quantization(tuple(product.astype(np.float32).tolist())))
    values = np.ascontiguousarray(kernel.values.transpose(order))
    return g.file.constant(values, stored), bias_tensor, quantization(scales.of(output))
