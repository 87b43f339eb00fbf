"""ONNX Runtime's ``quantize_static`` as in ``onnxruntime.py``, but with a scale for each output channel of the weights,
which its document names as the first remedy where accuracy is lost. Not the default: beside it, to be fair to it."""

from __future__ import annotations

from pathlib import Path

from edgeseg.benchmarks.against_quantizers.vendors import Frames, onnxruntime

TITLE, TARGET = "quantize_static, per channel", onnxruntime.TARGET
CALL = onnxruntime.CALL.replace("reader)", "reader, per_channel=True)")
PACKAGES = onnxruntime.PACKAGES


def quantize(source: Path, frames: Frames, folder: Path) -> list[str]:
    return onnxruntime.quantize(source, frames, folder, per_channel=True)
