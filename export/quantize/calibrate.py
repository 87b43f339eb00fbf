"""From what calibration frames show to each tensor's range."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.export.quantize import facts
from edgeseg.export.quantize.calibrators import DEFAULT, calibrator
from edgeseg.export.quantize.observe import Histograms, histograms
from edgeseg.export.quantize.store import Facts


@dataclass(frozen=True)
class Calibration:
    """``ranges``: absolute maximum by tensor name. ``digest``: over all that they follow from (``parts``)."""

    ranges: dict[str, float]
    method: str
    images: int
    parts: dict[str, str]

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()


def calibration(found: Histograms, method: str, known: Facts) -> Calibration:
    """The ranges of the tensors of ``found`` by the calibrator ``method``. ``known``: what ``found`` follows from.

    Raises:
        InputError: no such calibrator.
    """
    find = calibrator(method)
    ranges = {name: find(histogram) for name, histogram in found.items()}
    return Calibration(ranges, method, len(known["frames"]), {**facts.told(known), "method": method})


def calibrate(
    model: ir.Model,
    frames: Iterable[NDArray[np.uint8]],
    method: str = DEFAULT,
    done: Callable[[], None] = lambda: None,
) -> Calibration:
    """Ranges of every tensor that int8 needs, from ``frames`` (uint8 H×W×3 each, at the graph's frame size), by a
    calibrator of ``edgeseg.export.quantize.calibrators``. ``done`` is called after each frame.

    Raises:
        InputError: no frames, no such calibrator, or an operator without a quantization rule.
    """
    calibrator(method)
    digests: list[str] = []

    def noted() -> Iterable[NDArray[np.uint8]]:
        for frame in frames:
            digests.append(facts.of_frame(frame))
            yield frame

    found = histograms(model, noted(), done)
    return calibration(found, method, {**facts.of_model(model), **facts.of_code(), "frames": digests})
