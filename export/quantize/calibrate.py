"""Runs the float graph over calibration frames and finds each tensor's range."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.quantize._session import session_of
from edgeseg.export.quantize.histogram import Histogram
from edgeseg.export.quantize.plan import Plan

METHODS = ("mse", "minmax")


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


def calibrate(
    model: ir.Model,
    frames: Iterable[NDArray[np.uint8]],
    method: str = "mse",
    done: Callable[[], None] = lambda: None,
) -> Calibration:
    """Ranges of every tensor that int8 needs, from ``frames`` (uint8 H×W×3 each, at the graph's frame size).

    ``method``: "mse" clips where the squared quantization error is least, "minmax" never clips. ``done`` is
    called after each frame.

    Raises:
        InputError: no frames, or an operator without a quantization rule.
    """
    plan = Plan(model)
    names = [str(v.name) for v in plan.points + plan.inner]
    session = session_of(model, names)
    histograms = {name: Histogram() for name in names}
    images = hashlib.sha256()
    count = 0
    for frame in frames:
        images.update(hashlib.sha256(frame.tobytes()).digest())
        for name, values in zip(names, session.run(names, {"frame": frame[None]}), strict=True):
            histograms[name].add(values)
        count += 1
        done()
    if not count:
        raise InputError("int8 calibration got no images: check --data and --calib-images")
    find = {"mse": Histogram.mse, "minmax": Histogram.minmax}[method]
    ranges = {name: find(h) for name, h in histograms.items()}
    parts = {
        "graph": hashlib.sha256(ir.to_proto(model).SerializeToString(deterministic=True)).hexdigest(),
        "images": images.hexdigest(),
        "method": method,
        "packages": f"onnxruntime {version('onnxruntime')}, numpy {version('numpy')}",
    }
    return Calibration(ranges, method, count, parts)
