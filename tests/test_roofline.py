"""How near an engine comes to its machine: the arithmetic, and that the ceilings are real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeseg.artifact import load
from edgeseg.benchmarks.roofline import Ceilings, against, ceilings
from tests.test_latency import artifact


def test_the_lower_ceiling_counts(tmp_path: Path) -> None:
    manifest = load(artifact(tmp_path / "small", size=(100, 100))).manifest  # its input: 30 000 bytes
    run = {"latency_ms": {"p50": 10.0}, "size_mb": 0.97}
    # 0.2 GFLOP in 10 ms over 1 MB: 20 GFLOP/s, 0.1 GB/s, 200 operations a byte.
    one = against(run, manifest, Ceilings(100.0, 10.0))
    assert one["gflops"] == pytest.approx(20) and one["gb_per_s"] == pytest.approx(0.1)
    assert one["flops_per_byte"] == pytest.approx(200) and one["share"] == pytest.approx(0.2)
    slow = replace(manifest, model=replace(manifest.model, gmacs=0.0005))  # 1 operation a byte: memory is the roof
    two = against(run, slow, Ceilings(100.0, 10.0))
    assert two["gflops"] == pytest.approx(0.1) and two["share"] == pytest.approx(0.01)


def test_ceilings_are_measured() -> None:
    found = ceilings(side=256, copied=2**20)
    assert found.gflops > 0.5 and found.gb_per_s > 0.2
