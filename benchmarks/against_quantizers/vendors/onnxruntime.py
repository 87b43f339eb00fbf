"""ONNX Runtime's ``quantize_static`` with its defaults, after the pre-processing that it asks for: Q/DQ, int8 weights
of one scale a tensor, int8 activations with zero points, minima and maxima.

Document: onnxruntime.ai, "Quantize ONNX Models".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnxruntime.quantization import CalibrationDataReader, quant_pre_process, quantize_static

from edgeseg.benchmarks.against_quantizers.vendors import Frames

TITLE, TARGET = "quantize_static", "onnxruntime"
CALL = "`quant_pre_process(model, prepared)`, `quantize_static(prepared, quantized, reader)`"
PACKAGES = ("onnxruntime", "onnx")
FILE = "model.onnx"


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, frames: Frames) -> None:
        self._frames = iter(frames)

    def get_next(self) -> dict[str, Any] | None:
        frame = next(self._frames, None)
        return None if frame is None else {"frame": frame[None]}


def quantize(source: Path, frames: Frames, folder: Path, **options: Any) -> list[str]:
    prepared = folder / "prepared.onnx"
    quant_pre_process(source / FILE, prepared)
    quantize_static(prepared, folder / FILE, Reader(frames), **options)
    prepared.unlink()
    return [FILE]
