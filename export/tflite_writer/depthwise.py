"""Depthwise int8 convolutions that stand in for what XNNPACK has no int8 operator for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeseg.export.tflite_writer.arithmetic import NONE
from edgeseg.export.tflite_writer.flatbuffer import Quantization, Tensor
from edgeseg.export.tflite_writer.graph import Graph
from edgeseg.export.tflite_writer.scales import LEVELS
from edgeseg.export.tflite_writer.schema import schema


def filtered(
    g: Graph,
    x: Tensor,
    kernel: NDArray[np.float32],
    out: Quantization,
    strides: tuple[int, int] = (1, 1),
    activation: int = NONE,
) -> Tensor:
    """The int8 ``x`` filtered by ``kernel``, height × width × channels, without pads."""
    height, width, channels = kernel.shape
    step = (np.abs(kernel).max((0, 1)) / LEVELS).astype(np.float32)
    step[step == 0] = 1
    weights = g.file.constant(np.round(kernel / step).astype(np.int8)[None], Quantization(tuple(step.tolist()), axis=3))
    bias = g.file.constant(np.zeros(channels, np.int32), Quantization(tuple((step * np.float32(x.scale)).tolist())))
    options = schema.DepthwiseConv2DOptionsT(padding=schema.Padding.VALID, depthMultiplier=1)
    options.strideH, options.strideW = strides
    options.dilationHFactor = options.dilationWFactor = 1
    options.fusedActivationFunction = activation
    n, h, w, _ = x.shape
    sizes = (n, (h - height) // strides[0] + 1, (w - width) // strides[1] + 1, channels)
    return g.op("DEPTHWISE_CONV_2D", [x, weights, bias], sizes, options, out)
