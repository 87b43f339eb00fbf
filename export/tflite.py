"""ONNX → TFLite (``model.tflite``), written directly: NHWC, no TensorFlow, no converter.

fp16 stores the convolutions' weights in half precision; the runtime widens them when it loads. int8 takes the
scales of the graph's Q/DQ pairs into int8 tensors.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import onnx_ir as ir

from edgeseg.export.tflite_writer import write

PRECISIONS = ("fp32", "fp16", "int8")
FILE = "model.tflite"


def compile(model: ir.Model, precision: str, folder: Path) -> list[str]:
    """Write ``model`` (Q/DQ for int8) into ``folder``; returns the file names.

    Raises:
        InputError: an operator or attribute without a TFLite form, named.
    """
    (folder / FILE).write_bytes(write(model, half=precision == "fp16"))
    return [FILE]


def toolchain() -> dict[str, str]:
    return {"ai-edge-litert": version("ai-edge-litert")}


def weight_levels() -> int:
    """XNNPACK's int8 kernels sum in 32 bits on every CPU: the full range."""
    return 127
