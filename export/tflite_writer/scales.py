"""The int8 step of each tensor, from the graph's Q/DQ pairs and its calibrated ranges."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import array, attribute, floats, sole_user
from edgeseg.export.quantize.plan import ACTIVATIONS, COMPUTE, WEIGHTED, silu
from edgeseg.export.quantize.qdq import RANGES
from edgeseg.export.tflite_writer.flatbuffer import Quantization

LEVELS = 127
FAR, COSTLY = 2.0, 0.3  # negatives beyond so many times the range, or clipped by so much of it, are held
MOVES = ("MaxPool", "Slice", "Pad", "Concat", "Where", "Max", "DepthToSpace", "SpaceToDepth", "Transpose",
         "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Gather", "Split")  # fmt: skip


class Scales:
    """How int8 tensors stand for reals: with zero point 0, but for what TFLite cannot fuse."""

    def __init__(self, model: ir.Model) -> None:
        self._ranges: dict[str, float] = json.loads(model.metadata_props.get(RANGES, "{}"))

    def of(self, value: ir.Value) -> Quantization:
        """What ``value`` is to be stored with.

        Raises:
            InputError: neither the graph nor the ranges say.
        """
        found = self._asked(value) or self._before_slope(value) or self._calibrated(value)
        if found is None:
            raise InputError(f"int8: '{value.name}' has no scale: neither a Q/DQ pair nor a calibrated range")
        return found

    def _asked(self, value: ir.Value) -> Quantization | None:
        """That of the QuantizeLinear that ``value`` goes to, itself or after being moved about."""
        users = [use.node for use in value.uses()]
        for node in users:
            if node.op_type == "QuantizeLinear":
                return step(node)
        for node in users:
            if node.op_type in MOVES and (found := self._asked(node.outputs[0])) is not None:
                return found
        return None

    def _before_slope(self, value: ir.Value) -> Quantization | None:
        """That of what goes to a PRelu or LeakyRelu, which TFLite does not fuse.

        With the activation's own scale, what is positive is rounded only once, and negatives that are clipped
        are few and count only by their slope. Where they reach far, the range is moved to hold them; where
        slopes are steep, small inputs decide.
        """
        user = sole_user(value)
        if user is None or user.op_type not in ("PRelu", "LeakyRelu"):
            return None
        after, own = self.of(user.outputs[0]), self._calibrated(value)
        if own is None:
            return after
        (top,), (bottom,), steepest = after.scale, own.scale, float(np.abs(slopes(user)).max())
        if bottom > FAR * top or steepest * (bottom - top) > COSTLY * top:
            scale = (top + bottom) * LEVELS / (2 * LEVELS + 1)
            return replace(Quantization.of(scale), zero=round(bottom * LEVELS / scale) - LEVELS - 1)
        return after if steepest <= 1 or top <= bottom else own

    def _calibrated(self, value: ir.Value) -> Quantization | None:
        """What just holds the calibrated range, or None where ``value`` was not calibrated."""
        amax = self._ranges.get(str(value.name))
        return None if amax is None else Quantization.of((amax or 1.0) / LEVELS)  # zeros take any scale


def in_float(node: ir.Node) -> bool:
    """Whether a computation of a Q/DQ graph is one that was kept in float: it has float weights, or no pair behind."""
    if node.op_type not in (*COMPUTE, *ACTIVATIONS):
        return False
    node = silu(node) or node
    constant = node.op_type in WEIGHTED and array(node.inputs[1]) is not None
    return constant or not _paired(node.outputs[0])


def _paired(value: ir.Value) -> bool:
    """Whether ``value`` goes to a QuantizeLinear, itself or after an activation or being moved about."""
    users = [use.node for use in value.uses()]
    return any(
        node.op_type == "QuantizeLinear" or (node.op_type in (*MOVES, *ACTIVATIONS) and _paired(node.outputs[0]))
        for node in users
    )


def step(node: ir.Node) -> Quantization:
    """The one scale of a QuantizeLinear or DequantizeLinear. Raises InputError where it has several, or an offset."""
    scale, zero = array(node.inputs[1]), array(node.inputs[2]) if len(node.inputs) > 2 else None
    if scale is None or scale.size != 1 or zero is None or zero.dtype != np.int8 or zero.any():
        raise InputError(f"'{node.outputs[0].name}' must be quantized with one scale, int8, zero point 0")
    return Quantization.of(float(scale.item()))


def slopes(node: ir.Node) -> NDArray[np.float32]:
    """The slopes of a PRelu or LeakyRelu. Raises InputError where they are not constant."""
    if node.op_type == "LeakyRelu":
        return floats(attribute(node, "alpha", 0.01))
    given = array(node.inputs[1])
    if given is None:
        raise InputError(f"PRelu '{node.outputs[0].name}': its slopes must be constant")
    return given.astype(np.float32)
