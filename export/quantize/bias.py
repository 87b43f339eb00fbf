"""What rounding shifts a convolution's outputs by on average, taken back in its bias.

Rounded weights and clipped, rounded inputs move the mean of every output channel. With the means of the inputs before
and after rounding that shift is known layer by layer, from float arithmetic alone (data-free quantization,
arXiv:1906.04721, section 4.2, corrects for the weights so; here the inputs' own shift is in it too). Shifts that are
passed on by earlier layers are not: corrected everywhere at once, they would add up through a deep network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.export.passes._rewrite import array, attribute, shape
from edgeseg.export.quantize._session import Observed
from edgeseg.export.quantize.histogram import LEVELS
from edgeseg.export.quantize.plan import Plan

CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclass(frozen=True)
class Mean:
    """Of each channel of a tensor N×C×H×W, over frames and positions: float64 C, as it is and as its pair has it."""

    exact: NDArray[np.float64]
    rounded: NDArray[np.float64]


def input_means(
    model: ir.Model,
    ranges: Mapping[str, float],
    frames: Iterable[NDArray[np.uint8]],
    done: Callable[[], None] = lambda: None,
) -> dict[str, Mean]:
    """The means of what the convolutions of the clean float ``model`` read, by tensor, over ``frames`` (uint8 H×W×3
    each). ``ranges`` are a calibration's."""
    plan = Plan(model, ranges)
    read = {str(n.inputs[0].name): n.inputs[0] for n in model.graph if is_convolution(n) and n.inputs[0] is not None}
    read = {name: value for name, value in read.items() if plan.scale_of(value) is not None}
    steps = {name: (plan.range_of(str(plan.scale_of(v))) or 1.0) / LEVELS for name, v in read.items()}
    sums = {name: np.zeros((2, shape(v)[1])) for name, v in read.items()}
    observed, count = Observed(model, read), 0
    for frame in frames:
        for name, x in observed.run(frame):
            rounded = np.clip(np.rint(x / np.float32(steps[name])), -LEVELS - 1, LEVELS)
            sums[name] += x.mean((0, 2, 3), dtype=np.float64), steps[name] * rounded.mean((0, 2, 3), dtype=np.float64)
        count += 1
        done()
    return {name: Mean(*(total / count)) for name, total in sums.items()}


def is_convolution(node: ir.Node) -> bool:
    """Whether ``node`` convolves with constant weights."""
    return node.op_type in CONVOLUTIONS and array(node.inputs[1]) is not None


def shift(node: ir.Node, weights: NDArray[np.float32], rounded: NDArray[np.float32], mean: Mean) -> NDArray[np.float32]:
    """What to add to the bias of the convolution ``node`` that has ``rounded`` in place of ``weights``; float32 O."""
    lost: NDArray[np.float64] = _mean_output(node, weights, mean.exact) - _mean_output(node, rounded, mean.rounded)
    return lost.astype(np.float32)


def _mean_output(node: ir.Node, weights: NDArray[np.float32], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each output channel, without the bias; at the borders, where padding's zeros come in, it is another."""
    group = int(attribute(node, "group", 1))
    taps = weights.sum(tuple(range(2, weights.ndim)), dtype=np.float64)
    parts, means = taps.reshape(group, taps.shape[0] // group, -1), mean.reshape(group, -1)
    if node.op_type == "Conv":
        each: NDArray[np.float64] = np.einsum("goi,gi->go", parts, means)
    else:
        each = np.einsum("gio,gi->go", parts, means) / np.prod(attribute(node, "strides", [1, 1]))
    return each.ravel()
