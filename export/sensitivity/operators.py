"""ONNX operators in PyTorch, as far as the graphs that are quantized have them: ``OPERATORS[kind](node, inputs)``, the
inputs being tensors or, where the node has none, None."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import attribute

Inputs = Sequence[Tensor | None]


class NoCounterpart(InputError):
    """An operator, or a form of it, that is not among ``OPERATORS``."""


TYPES = {ir.DataType.FLOAT: torch.float32, ir.DataType.INT32: torch.int32, ir.DataType.INT64: torch.int64,
         ir.DataType.UINT8: torch.uint8, ir.DataType.BOOL: torch.bool}  # fmt: skip


def _convolution(node: ir.Node, inputs: Inputs) -> Tensor:
    x, weight, bias = _three(inputs)
    x, pads = _padded(node, x, 0.0)
    strides, dilations, group = _pair(node, "strides"), _pair(node, "dilations"), attribute(node, "group", 1)
    return F.conv2d(x, weight, bias, strides, pads, dilations, group)


def _transposed(node: ir.Node, inputs: Inputs) -> Tensor:
    x, weight, bias = _three(inputs)
    top, left, bottom, right = attribute(node, "pads", (0, 0, 0, 0))
    more = tuple(attribute(node, "output_padding", (0, 0)))
    strides, dilations, group = _pair(node, "strides"), _pair(node, "dilations"), attribute(node, "group", 1)
    y = F.conv_transpose2d(x, weight, bias, strides, 0, more, group, dilations)
    return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]


def _max_pool(node: ir.Node, inputs: Inputs) -> Tensor:
    x, pads = _padded(node, _one(inputs), -math.inf)
    kernel, ceil = tuple(attribute(node, "kernel_shape", ())), bool(attribute(node, "ceil_mode", 0))
    return F.max_pool2d(x, kernel, _pair(node, "strides"), pads, _pair(node, "dilations"), ceil)


def _average_pool(node: ir.Node, inputs: Inputs) -> Tensor:
    kernel, ceil = tuple(attribute(node, "kernel_shape", ())), bool(attribute(node, "ceil_mode", 0))
    pads, counted = attribute(node, "pads", (0, 0, 0, 0)), bool(attribute(node, "count_include_pad", 0))
    if tuple(pads[:2]) != tuple(pads[2:]):
        raise NoCounterpart(f"AveragePool with pads {pads}")
    return F.avg_pool2d(_one(inputs), kernel, _pair(node, "strides"), tuple(pads[:2]), ceil, counted)


def _resize(node: ir.Node, inputs: Inputs) -> Tensor:
    x = _one(inputs)
    assert node.outputs[0].shape is not None
    size = tuple(int(d) for d in node.outputs[0].shape[2:])  # type: ignore[arg-type]
    mode, where = attribute(node, "mode", "nearest"), attribute(node, "coordinate_transformation_mode", "half_pixel")
    if mode == "linear" and where in ("align_corners", "half_pixel", "pytorch_half_pixel"):
        return F.interpolate(x, size, mode="bilinear", align_corners=where == "align_corners")
    if mode == "nearest" and where == "asymmetric" and attribute(node, "nearest_mode", "") == "floor":
        return F.interpolate(x, size, mode="nearest")
    raise NoCounterpart(f"Resize {mode}, {where}")


def _slice(node: ir.Node, inputs: Inputs) -> Tensor:
    x, starts, ends = inputs[0], _numbers(inputs[1]), _numbers(inputs[2])
    assert x is not None
    axes = _numbers(inputs[3]) if len(inputs) > 3 and inputs[3] is not None else range(len(starts))
    steps = _numbers(inputs[4]) if len(inputs) > 4 and inputs[4] is not None else [1] * len(starts)
    at = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1:
            raise NoCounterpart(f"Slice by a step of {step}")
        at[axis] = slice(start, end, step)
    return x[tuple(at)]


def _pad(node: ir.Node, inputs: Inputs) -> Tensor:
    x, pads = _one(inputs), _numbers(inputs[1])
    ends = [(pads[axis], pads[axis + x.ndim]) for axis in reversed(range(x.ndim))]
    mode = attribute(node, "mode", "constant")
    if mode == "constant":
        fill = float(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else 0.0
        return F.pad(x, [n for pair in ends for n in pair], value=fill)
    if mode in ("reflect", "edge") and not any(map(any, ends[2:])):
        return F.pad(x, [n for pair in ends[:2] for n in pair], mode="reflect" if mode == "reflect" else "replicate")
    raise NoCounterpart(f"Pad {mode}")


def _prelu(node: ir.Node, inputs: Inputs) -> Tensor:
    x, slope, _ = _three(inputs)
    return torch.where(x >= 0, x, x * slope)


def _depth_to_space(node: ir.Node, inputs: Inputs) -> Tensor:
    x, block = _one(inputs), attribute(node, "blocksize", 1)
    if attribute(node, "mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    n, c, h, w = x.shape
    apart = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return apart.reshape(n, c // block**2, h * block, w * block)


def _reshape(node: ir.Node, inputs: Inputs) -> Tensor:
    x, size = _one(inputs), _numbers(inputs[1])
    return x.reshape([x.shape[i] if d == 0 else d for i, d in enumerate(size)])


def _mean(node: ir.Node, inputs: Inputs) -> Tensor:
    axes = _numbers(inputs[1]) if len(inputs) > 1 else attribute(node, "axes", None)
    if axes is None:
        raise NoCounterpart("ReduceMean over all axes")
    return _one(inputs).mean(tuple(axes), keepdim=bool(attribute(node, "keepdims", 1)))


def _clip(node: ir.Node, inputs: Inputs) -> Tensor:
    low, high = (inputs[i] if len(inputs) > i else None for i in (1, 2))
    return torch.clamp(_one(inputs), low, high)


def _cast(node: ir.Node, inputs: Inputs) -> Tensor:
    return _one(inputs).to(TYPES[ir.DataType(attribute(node, "to", 1))])


def _gather(node: ir.Node, inputs: Inputs) -> Tensor:
    x, at = _two(inputs)
    axis = attribute(node, "axis", 0)
    taken = x.index_select(axis, at.reshape(-1).long())
    return taken if at.ndim else taken.squeeze(axis)


def _where(node: ir.Node, inputs: Inputs) -> Tensor:
    condition, yes, no = inputs
    assert condition is not None and yes is not None and no is not None
    return torch.where(condition, yes, no)


def _maximum(node: ir.Node, inputs: Inputs) -> Tensor:
    y = _one(inputs)
    for x in inputs[1:]:
        assert x is not None
        y = torch.maximum(y, x)
    return y


def _concat(node: ir.Node, inputs: Inputs) -> Tensor:
    return torch.cat([x for x in inputs if x is not None], attribute(node, "axis", 1))


def _one(inputs: Inputs) -> Tensor:
    assert inputs[0] is not None
    return inputs[0]


def _two(inputs: Inputs) -> tuple[Tensor, Tensor]:
    assert inputs[0] is not None and inputs[1] is not None
    return inputs[0], inputs[1]


def _three(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor | None]:
    return (*_two(inputs), inputs[2] if len(inputs) > 2 else None)


def _pair(node: ir.Node, name: str) -> tuple[int, ...]:
    return tuple(attribute(node, name, (1, 1)))


def _numbers(value: Tensor | None) -> list[int]:
    assert value is not None
    found: list[int] = value.reshape(-1).tolist()
    return found


def _padded(node: ir.Node, x: Tensor, fill: float) -> tuple[Tensor, tuple[int, int]]:
    """``x`` and the padding that is left to do, the same at both ends, as PyTorch's operators take it."""
    if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise NoCounterpart(f"{node.op_type} with auto_pad")
    top, left, bottom, right = attribute(node, "pads", (0, 0, 0, 0))
    if (top, left) == (bottom, right) and (fill == 0 or not top + left):
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom), value=fill), (0, 0)


OPERATORS: dict[str, Callable[[ir.Node, Inputs], Tensor]] = {
    "Add": lambda node, x: torch.add(*_two(x)),
    "AveragePool": _average_pool,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "DepthToSpace": _depth_to_space,
    "Equal": lambda node, x: torch.eq(*_two(x)),
    "Gather": _gather,
    "GreaterOrEqual": lambda node, x: torch.ge(*_two(x)),
    "MatMul": lambda node, x: torch.matmul(*_two(x)),
    "Max": _maximum,
    "MaxPool": _max_pool,
    "Mul": lambda node, x: torch.mul(*_two(x)),
    "PRelu": _prelu,
    "Pad": _pad,
    "ReduceMean": _mean,
    "Relu": lambda node, x: F.relu(_one(x)),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": lambda node, x: torch.sigmoid(_one(x)),
    "Slice": _slice,
    "Softmax": lambda node, x: torch.softmax(_one(x), attribute(node, "axis", -1)),
    "Sub": lambda node, x: torch.sub(*_two(x)),
    "Transpose": lambda node, x: _one(x).permute(attribute(node, "perm", ())),
    "Where": _where,
}
