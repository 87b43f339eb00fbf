"""The report: one file, complete, quiet, and readable on a phone; judged in a real browser where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.benchmarks.report import Overlay, write_report
from edgeseg.datasets._streets.classes import CLASSES

TARGETS = {"openvino": 21.0, "tflite": 48.0, "onnxruntime": 34.0}
PRECISIONS = {"fp32": (1.0, 0.0, 1.42), "fp16": (0.99, 0.01, 0.74), "int8": (0.55, 0.64, 0.48)}


def run(target: str, precision: str) -> dict[str, Any]:
    rng = np.random.default_rng([len(target), len(precision), ord(precision[-1])])
    speed, drop, size = PRECISIONS[precision]
    p50, drop = TARGETS[target] * speed, drop * float(rng.uniform(0.6, 1.4))
    parity: dict[str, Any] = {
        "metric": "miou", "reference": 68.31, "engine": 68.31 - drop, "drop": drop, "agreement": 1 - drop / 80,
        "per_class": {c.name: float(v) for c, v in zip(CLASSES, rng.uniform(40, 95, len(CLASSES)), strict=True)},
        "images": 48, "data": "streets:48@240x320", "passed": (target, precision) != ("tflite", "int8"),
    }  # fmt: skip
    if precision == "int8":
        parity |= {
            "quantization": {"agreement": 0.991, "drop": 0.55},
            "engine_error": {"agreement": 0.998, "drop": -0.03},
        }
    return {
        "artifact": f"enet-240x320-{target}-{precision}", "model": "enet", "target": target, "precision": precision,
        "parity": parity, "latency_ms": {"p50": p50, "p90": p50 * 1.05, "p99": p50 * 1.3, "mean": p50 * 1.02, "n": 141},
        "fps": 1000 / p50, "throughput_fps": 980 / p50, "peak_memory_mb": 118.2, "size_mb": size,
        "stages_ms": {"preprocess": 0.0013, "infer": p50, "postprocess": 0.0009}, "validity": validity(precision != "fp16"),
    }  # fmt: skip


def validity(valid: bool) -> dict[str, Any]:
    cpu = {"model": "AMD EPYC", "board": None, "cores": 2, "usable_cores": 2, "flags": ["avx2"], "governor": None,
           "min_mhz": None, "max_mhz": None}  # fmt: skip
    return {
        "valid": valid, "reasons": [] if valid else ["other processes took 23% of the cores (at most 10%)"], "cpu": cpu,
        "threads": 2, "load_average": {"before": 0.4, "after": 1.2}, "other_work": {"processes": 0.23, "hypervisor": 0.0},
        "drift": -0.01, "steady": True, "temperatures_c": {"before": {}, "after": {}}, "python": "3.11.7",
        "toolchain": {"openvino": {"built": "2026.4.1", "installed": "2026.4.1"}}, "platform": "Linux-x86_64",
        "utc": "2026-11-24T00:23:47+00:00",
    }  # fmt: skip


@pytest.fixture(scope="module")
def runs() -> list[dict[str, Any]]:
    return [run(target, precision) for target in TARGETS for precision in PRECISIONS]


def overlay(truth: bool = True) -> Overlay:
    rng = np.random.default_rng(3)
    frame = np.full((90, 120, 3), (120, 140, 160), np.uint8) + rng.integers(0, 40, (90, 120, 3), np.uint8)
    reference = np.repeat(np.repeat(rng.integers(0, 11, (9, 12), np.uint8), 10, 0), 10, 1)
    engine = reference.copy()
    engine[10:13, 20:29] = (engine[10:13, 20:29] + 1) % 11
    return Overlay("street 7", frame, reference, engine, reference.copy() if truth else None, CLASSES)


@pytest.fixture(scope="module")
def report(runs: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "report.html"
    write_report(runs, [overlay(), overlay(truth=False)], out)
    return out
