"""NNCF as in ``nncf.py``, but with its other preset, "mixed": activations with zero points. Not the default for
convolutional networks: beside it, to be fair to it."""

from __future__ import annotations

from pathlib import Path

import nncf as package

from edgeseg.benchmarks.against_quantizers.vendors import Frames, nncf

TITLE, TARGET = "NNCF, mixed", nncf.TARGET
CALL = nncf.CALL.replace("dataset)", "dataset, preset=MIXED)")
PACKAGES = nncf.PACKAGES


def quantize(source: Path, frames: Frames, folder: Path) -> list[str]:
    return nncf.quantize(source, frames, folder, preset=package.QuantizationPreset.MIXED)
