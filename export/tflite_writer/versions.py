"""The lowest operator versions whose kernels do what the file asks, so that older runtimes load it too.

From LiteRT's ``tools/versioning/op_version.cc``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeseg.export.tflite_writer.flatbuffer import Tensor

SINCE_INT8 = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "QUANTIZE": 1, "RESHAPE": 1, "CAST": 1}


def version_of(kind: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], options: Any) -> int:
    """The version of operator ``kind`` for these tensors and options."""
    data = inputs[2] if kind == "TRANSPOSE_CONV" else inputs[0]
    least = SINCE_INT8.get(kind, 2) if data.dtype == "int8" else 1
    return max(least, _by_feature(kind, inputs, outputs, options))


def _by_feature(kind: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], options: Any) -> int:
    match kind:
        case "CONV_2D" if inputs[0].shape[3] != inputs[1].shape[3]:
            return 6  # grouped
        case "DEPTHWISE_CONV_2D" if options.dilationHFactor != 1 or options.dilationWFactor != 1:
            return 2
        case "TRANSPOSE_CONV":
            return 4 if options.fusedActivationFunction else 3
        case "DEQUANTIZE" if inputs[0].dtype == "float16":
            return 3
        case "RESIZE_BILINEAR" if options.halfPixelCenters:
            return 3
        case "RESIZE_NEAREST_NEIGHBOR" if options.halfPixelCenters or options.alignCorners:
            return 3
        case "MUL" if outputs[0].dtype == "int8" and inputs[0].scale * inputs[1].scale >= outputs[0].scale:
            return 3
        case "STRIDED_SLICE" | "TRANSPOSE" | "GATHER" if inputs[0].dtype == "bool":
            return 3
    return 1
