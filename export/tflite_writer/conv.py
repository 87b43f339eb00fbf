"""Conv and ConvTranspose: kernels in TFLite's order, activations fused, int8 scales per output channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, attribute, shape
from edgeseg.export.tflite_writer.activation import fuse
from edgeseg.export.tflite_writer.flatbuffer import Quantization, Tensor
from edgeseg.export.tflite_writer.graph import Graph, stored_shape
from edgeseg.export.tflite_writer.padding import Window, cut, pads_of, resolve, windows
from edgeseg.export.tflite_writer.schema import schema

BIAS_MAX = np.float32(1 << 30)  # steps: where weights are as good as zero, the bias sets their scale


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
    """The outputs of one phase modulo the stride are a plain convolution. All phases together are one, of
    stride² times the channels, which DEPTH_TO_SPACE interleaves (arXiv:1609.07009): XNNPACK computes it in a
    fraction of the time of a TRANSPOSE_CONV."""
    name, strides = f"ConvTranspose '{node.outputs[0].name}'", attribute(node, "strides", (1, 1))
    if attribute(node, "group", 1) != 1 or set(attribute(node, "dilations", (1, 1))) != {1} or len(set(strides)) > 1:
        raise InputError(f"{name}: groups, dilation and strides that differ have no TFLite form")
    if "output_shape" in node.attributes:
        raise InputError(f"{name} has output_shape: export explicit pads")
    stride, kernel = strides[0], Kernel.of(node, axis=1)
    phases = [Phases.of(node, i, stride, kernel.values.shape[2 + i]) for i in range(2)]
    kernel = kernel.split(phases[0].taps(), phases[1].taps())
    x, padding = resolve(g, g.nhwc(node.inputs[0]), [p.window for p in phases])
    activation, output = fuse(g, node)
    options = schema.Conv2DOptionsT(padding=padding, fusedActivationFunction=activation, strideH=1, strideW=1)
    n, h, w, c = stored_shape(output)
    sizes = (n, *(p.window.out for p in phases), stride * stride * c)
    result = g.op("CONV_2D", [x, *kernel.tensors(g, x, (0, 2, 3, 1))], sizes, options, g.quantization(output, x))
    if stride > 1:
        sizes = (n, sizes[1] * stride, sizes[2] * stride, c)
        result = g.op("DEPTH_TO_SPACE", [result], sizes, schema.DepthToSpaceOptionsT(blockSize=stride))
    g.place(output, cut(g, cut(g, result, 1, 0, h), 2, 0, w))


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

    def split(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Kernel:
        """A kernel of a transposed convolution as that of its phases: ``rows`` and ``columns`` give for each
        phase and position an element of the kernel; beyond its end stands 0."""
        wide = np.pad(self.values, [(0, 0), (0, 0), (0, 1), (0, 1)])
        parts = wide[:, :, rows[:, None, :, None], columns[None, :, None, :]]  # I, O, phases, kernel
        values = parts.transpose(2, 3, 1, 0, 4, 5).reshape(-1, len(wide), rows.shape[1], columns.shape[1])
        phases = len(rows) * len(columns)
        scale = None if self.scale is None else np.tile(np.broadcast_to(self.scale, self.bias.shape), phases)
        return Kernel(self.name, values, scale, np.tile(self.bias, phases), axis=0)

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
        wide = np.maximum(steps, np.abs(self.bias) / (BIAS_MAX * np.float32(x.scale)))
        shape = [-1 if d == where else 1 for d in range(4)]
        values = np.round(values * (steps / wide).reshape(shape)).astype(np.int8)
        product = wide * np.float32(x.scale)
        bias = np.round(self.bias / product.astype(np.float64)).astype(np.int32)
        return [
            g.file.constant(values, Quantization(tuple(wide.tolist()), axis=where)),
            g.file.constant(bias, Quantization(tuple(product.tolist()))),
        ]


@dataclass(frozen=True)
class Phases:
    """A transposed convolution along one axis, as a convolution: output stride · m + phase is the sum over d in
    ``first`` … ``last`` of input m + d times the kernel's element phase + pad − stride · d."""

    stride: int
    kernel: int
    pad: int
    first: int
    last: int
    window: Window

    @classmethod
    def of(cls, node: ir.Node, i: int, stride: int, kernel: int) -> Phases:
        assert node.inputs[0] is not None
        length, out, pad = shape(node.inputs[0])[2 + i], shape(node.outputs[0])[2 + i], pads_of(node)[i]
        first, last = min(-((kernel - 1 - pad) // stride), 0), (stride - 1 + pad) // stride
        after = max(-(-out // stride) - length + last, 0)
        extent = last - first + 1
        window = Window(length, length - first + after - extent + 1, extent, 1, -first, after)
        return cls(stride, kernel, pad, first, last, window)

    def taps(self) -> NDArray[np.int64]:
        """For each phase and each d the element of the kernel, or its length where there is none."""
        phase, offset = np.arange(self.stride)[:, None], np.arange(self.first, self.last + 1)
        element = phase + self.pad - self.stride * offset
        return np.where((element >= 0) & (element < self.kernel), element, self.kernel)
