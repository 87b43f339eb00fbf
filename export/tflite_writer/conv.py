"""Conv and ConvTranspose: kernels in TFLite's order, activations fused, int8 scales per output channel.

XNNPACK has no int8 PReLU (arXiv:1502.01852, eq. 1), and one made of what it has would round the convolution before its
slopes. So the convolution is written twice, each with max(…, 0): with its weights, and with these times −|a|; what
the two give is added or taken away without rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, attribute, shape, sole_user
from edgeseg.export.tflite_writer.activation import fuse
from edgeseg.export.tflite_writer.arithmetic import RELU, binary
from edgeseg.export.tflite_writer.depthwise import filtered
from edgeseg.export.tflite_writer.flatbuffer import Quantization, Tensor
from edgeseg.export.tflite_writer.graph import Graph, stored_shape
from edgeseg.export.tflite_writer.padding import Window, cut, pads_of, resolve, windows
from edgeseg.export.tflite_writer.scales import slopes
from edgeseg.export.tflite_writer.schema import schema

NO_SLOPE = 1e-6  # which moves nothing by an int8 step, and whose weights' scales float32 may not hold
BIAS_MAX = np.float32(1 << 30)  # steps: where weights are as good as zero, the bias sets their scale


def lower_Conv(g: Graph, node: ir.Node) -> None:
    x, kernel = g.nhwc(node.inputs[0]), Kernel.of(node, axis=0)
    depthwise = attribute(node, "group", 1) == x.shape[3] > 1
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    x, options.padding = resolve(g, x, windows(node, kernel.values.shape[2:]))
    options.strideH, options.strideW = attribute(node, "strides", (1, 1))
    options.dilationHFactor, options.dilationWFactor = attribute(node, "dilations", (1, 1))
    if depthwise:
        options.depthMultiplier = kernel.values.shape[0] // x.shape[3]
    kind, order = ("DEPTHWISE_CONV_2D", (1, 2, 3, 0)) if depthwise else ("CONV_2D", (0, 2, 3, 1))

    def write(kernel: Kernel, activation: int, output: ir.Value) -> Tensor:
        fused = copy(options)
        fused.fusedActivationFunction = activation
        return g.op(kind, [x, *kernel.tensors(g, x, order)], stored_shape(output), fused, g.quantization(output, x))

    g.place(*_activated(g, node, x, kernel, write))


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
    n, h, w, c = stored_shape(node.outputs[0])
    sizes = (n, *(p.window.out for p in phases), stride * stride * c)

    def write(kernel: Kernel, activation: int, output: ir.Value) -> Tensor:
        options = schema.Conv2DOptionsT(padding=padding, fusedActivationFunction=activation, strideH=1, strideW=1)
        return g.op("CONV_2D", [x, *kernel.tensors(g, x, (0, 2, 3, 1))], sizes, options, g.quantization(output, x))

    output, result = _activated(g, node, x, kernel, write)
    if stride > 1:
        sizes = (n, sizes[1] * stride, sizes[2] * stride, c)
        result = g.op("DEPTH_TO_SPACE", [result], sizes, schema.DepthToSpaceOptionsT(blockSize=stride))
    g.place(output, cut(g, cut(g, result, 1, 0, h), 2, 0, w))


def _activated(
    g: Graph, node: ir.Node, x: Tensor, kernel: Kernel, write: Callable[[Kernel, int, ir.Value], Tensor]
) -> tuple[ir.Value, Tensor]:
    """What ``write`` makes of ``kernel`` and an activation that can be fused, or of the two kernels of a PRelu; and the
    value that this is."""
    user = sole_user(node.outputs[0])
    given = _slopes(user) if user is not None and x.dtype == "int8" else None
    if user is None or given is None:
        activation, output = fuse(g, node)
        return output, write(kernel, activation, output)
    g.done.add(user)
    output = user.outputs[0]
    given = np.where(np.abs(given) < NO_SLOPE, 0, given)
    given = np.tile(given, len(kernel.bias) // len(given))  # a transposed convolution's phases
    out = g.scales.of(output)
    above, below = (write(k, RELU, output) for k in (kernel, kernel.times(-np.abs(given))))
    if given.min() >= 0:
        return output, binary(g, "SUB", above, below)
    signs = np.where(given < 0, 1, -1).astype(np.float32)[None, None]
    return output, binary(g, "ADD", above, filtered(g, below, signs, out))


def _slopes(node: ir.Node) -> NDArray[np.float32] | None:
    """Those of a PRelu by channel, where they differ; with one for all TFLite has LEAKY_RELU."""
    if node.op_type != "PRelu":
        return None
    given = slopes(node)
    by_channel = given.ndim > 2 and given.shape[-2:] == (1, 1) and given.size == shape(node.outputs[0])[1]
    return given.reshape(-1) if by_channel and (given != given.flat[0]).any() else None


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

    def times(self, factors: NDArray[np.float32]) -> Kernel:
        """Each output channel times its factor; of an int8 kernel."""
        assert self.scale is not None
        shape = [-1 if d == self.axis else 1 for d in range(4)]
        scale = np.where(factors == 0, 1, np.abs(factors) * np.broadcast_to(self.scale, self.bias.shape))
        signs = np.sign(factors).astype(np.int8).reshape(shape)
        return replace(self, values=self.values * signs, scale=scale.astype(np.float32), bias=self.bias * factors)

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
