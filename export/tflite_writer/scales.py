"""The int8 step of each tensor, from the graph's Q/DQ pairs and its calibrated ranges."""

from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, attribute, sole_user
from edgeseg.export.quantize.qdq import RANGES

LEVELS = 127
MOST = 2.0
MOVES = (
    "MaxPool", "Slice", "Pad", "Concat", "Where", "Max", "DepthToSpace", "SpaceToDepth", "Transpose", "Reshape",
    "Flatten", "Squeeze", "Unsqueeze", "Identity", "Gather",
)  # fmt: skip


class Scales:
    """real = scale · int8, zero point 0."""

    def __init__(self, model: ir.Model) -> None:
        ranges: dict[str, float] = json.loads(model.metadata_props.get(RANGES, "{}"))
        self._ranges = ranges

    def of(self, value: ir.Value) -> float:
        """The scale ``value`` is to be stored with.

        Raises:
            InputError: neither the graph nor the ranges say.
        """
        found = self._asked(value) or self._before_slope(value) or self._calibrated(value)
        if found is None:
            raise InputError(f"int8: '{value.name}' has no scale: it is neither quantized nor in the model's ranges")
        return found

    def _before_slope(self, value: ir.Value) -> float | None:
        """The scale of what goes to a PRelu or LeakyRelu, which TFLite does not fuse.

        With the activation's own scale, what is positive is rounded only once, and the clipped negatives count
        only by their slope. Not so where slopes are steep or most of the range is clipped.
        """
        user = sole_user(value)
        if user is None or user.op_type not in ("PRelu", "LeakyRelu"):
            return None
        after, own = self.of(user.outputs[0]), self._calibrated(value)
        if own is None:
            return after
        if own > MOST * after:
            return own
        return after if np.abs(slopes(user)).max() <= 1 else min(own, after)

    def _calibrated(self, value: ir.Value) -> float | None:
        """The scale that just holds the calibrated range, or None where ``value`` was not calibrated."""
        amax = self._ranges.get(str(value.name))
        return None if amax is None else (amax or 1.0) / LEVELS  # a tensor of zeros takes any scale

    def _asked(self, value: ir.Value) -> float | None:
        """The scale of the QuantizeLinear that ``value`` goes to, itself or after being moved about."""
        users = [use.node for use in value.uses()]
        for node in users:
            if node.op_type == "QuantizeLinear":
                return step(node)
        for node in users:
            if node.op_type in MOVES and (found := self._asked(node.outputs[0])) is not None:
                return found
        return None


def step(node: ir.Node) -> float:
    """The one scale of a QuantizeLinear or DequantizeLinear. Raises InputError where it has several, or an offset."""
    scale, zero = array(node.inputs[1]), array(node.inputs[2]) if len(node.inputs) > 2 else None
    if scale is None or scale.size != 1 or (zero is not None and zero.any()):
        raise InputError(
            f"int8: {node.op_type} '{node.outputs[0].name}' must have one constant scale and zero point 0"
        )
    return float(scale.item())


def slopes(node: ir.Node) -> NDArray[np.float32]:
    """The slopes of a PRelu or LeakyRelu for negative values. Raises InputError where they are not constant."""
    if node.op_type == "LeakyRelu":
        return np.float32([attribute(node, "alpha", 0.01)])
    given = array(node.inputs[1])
    if given is None:
        raise InputError(f"PRelu '{node.outputs[0].name}': its slopes must be constant")
    return given.astype(np.float32)
