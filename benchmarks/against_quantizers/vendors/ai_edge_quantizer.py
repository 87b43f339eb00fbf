"""ai-edge-quantizer on the float .tflite, by its static recipe ``static_wi8_ai8``: int8 weights per channel, int8
activations with zero points, moving average of the minima and maxima. Outputs in float stay so, as the artifact has
them, which is the same as widening its int8 ones outside.

Document: github.com/google-ai-edge/ai-edge-quantizer, README, and its ``recipe.py``.
"""

from __future__ import annotations

from pathlib import Path

from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import qtyping, quantizer, recipe

from edgeseg.benchmarks.against_quantizers.vendors import Frames

TITLE, TARGET = "ai-edge-quantizer", "tflite"
CALL = "`Quantizer(model, recipe.static_wi8_ai8())`, outputs in float, `calibrate`, `quantize`"
PACKAGES = ("ai-edge-quantizer", "ai-edge-litert")
FILE, SIGNATURE = "model.tflite", "serving_default"
OUTPUT, NOT = qtyping.TFLOperationName.OUTPUT, quantizer.AlgorithmName.NO_QUANTIZE


def quantize(source: Path, frames: Frames, folder: Path) -> list[str]:
    task = quantizer.Quantizer(str(source / FILE), recipe.static_wi8_ai8())
    task.update_quantization_recipe(".*", OUTPUT, algorithm_key=NOT)
    ranges = task.calibrate({SIGNATURE: [{"frame": frame[None]} for frame in frames]})
    task.quantize(ranges).export_model(str(folder / FILE))
    _name_outputs(folder / FILE)
    return [FILE]


def _name_outputs(file: Path) -> None:
    """Where it widens an output it names the new tensor after the old one; the runtime looks for the old name."""
    model = flatbuffer_utils.read_model(str(file))
    (graph,) = model.subgraphs
    for index in graph.outputs:
        graph.tensors[index].name = graph.tensors[index].name.removesuffix(b"_dequant")
    flatbuffer_utils.write_model(model, str(file))
