"""A matrix that is killed at a random moment goes on where it was, and ends with the table it would have had."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgeseg.selfcheck import environment
from tests.targets import RUNNABLE

TARGETS = tuple(str(p.values[0]) for p in RUNNABLE if not p.marks)


@dataclass(frozen=True)
class Sweep:
    models: tuple[str, ...]
    targets: tuple[str, ...]
    precisions: tuple[str, ...]
    kills: int

    @property
    def cells(self) -> int:
        return len(self.models) * len(self.targets) * len(self.precisions)


SMALL = Sweep(("enet:overlap",), ("onnxruntime",), ("fp32", "int8"), 1)
WHOLE = Sweep(("enet", "enet:overlap", "espnet", "liteseg"), TARGETS, ("fp32", "fp16", "int8"), 3)


def run(sweep: Sweep, out: Path, kill_after: float | None = None) -> None:
    """To its end, or with SIGKILL to all of it after so many seconds."""
    chosen = [f"--target={t}" for t in sweep.targets] + [f"--precision={p}" for p in sweep.precisions]
    command = [
        sys.executable, "-c", "from edgeseg.cli import main; main()", "matrix", *sweep.models, *chosen,
        "--size", "64x96", "--data", "streets:2@64x96:val", "--calibration", "streets:4@64x96:train",
        "--seconds", "0.05", "--out", str(out),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(kill_after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def table(out: Path) -> list[dict[str, Any]]:
    """What does not depend on the clock: which cells there are, what they agree by, their size or error."""
    runs = json.loads((out / "results.json").read_text())["runs"]
    keys = ("model", "variant", "target", "precision", "size_mb", "error", "parity")
    return [{key: run.get(key) for key in keys} for run in runs]


@pytest.mark.slow
@pytest.mark.parametrize("sweep", [
    pytest.param(SMALL, id="small"),
    pytest.param(WHOLE, id="whole", marks=pytest.mark.skipif(
        not os.environ.get("EDGESEG_SLOW"), reason="two sweeps of 36 cells, many minutes: set EDGESEG_SLOW=1")),
])  # fmt: skip
def test_killed_at_random_moments_it_ends_with_the_same_table(sweep: Sweep, tmp_path: Path) -> None:
    begin = time.monotonic()
    run(sweep, tmp_path / "whole")
    took, seed = time.monotonic() - begin, random.SystemRandom().randrange(10**6)
    moments, killed = random.Random(seed), tmp_path / "killed"
    for _ in range(sweep.kills):
        run(sweep, killed, moments.uniform(0.1, 0.8) * took)
        done = {path.name: path.read_bytes() for path in (killed / "cells").glob("*.json")}
        assert all(json.loads(content) for content in done.values())
    run(sweep, killed)
    assert all((killed / "cells" / name).read_bytes() == content for name, content in done.items())
    assert len(table(killed)) == sweep.cells
    assert table(killed) == table(tmp_path / "whole"), f"seed {seed}"
