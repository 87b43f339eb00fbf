"""NNCF on OpenVINO's IR, by ``nncf.quantize`` with its defaults: preset "performance" (symmetric weights and
activations), target device "any", fast bias correction. The whole graph is handed over, from the frame to the labels,
and nothing is excluded: NNCF knows no quantized form of the ArgMax and leaves it.

Document: docs.openvino.ai, "Basic Quantization Flow".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nncf
import openvino as ov

from edgeseg.benchmarks.against_quantizers.vendors import Frames

TITLE, TARGET = "NNCF", "openvino"
CALL = "`nncf.quantize(model, dataset)`"
PACKAGES = ("nncf", "openvino")


def quantize(source: Path, frames: Frames, folder: Path, **options: Any) -> list[str]:
    model = ov.Core().read_model(source / "model.xml")
    quantized = nncf.quantize(model, nncf.Dataset(frames, lambda frame: {"frame": frame[None]}), **options)
    ov.save_model(quantized, folder / "model.xml", compress_to_fp16=False)
    return ["model.xml", "model.bin"]
