"""A matrix that is killed at a random moment goes on where it was, and ends with the table it would have had."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgeseg.benchmarks.latency import environment
from tests.targets import RUNNABLE

MODELS = ("enet", "enet:overlap", "espnet", "liteseg")
PRECISIONS = ("fp32", "fp16", "int8")
TIMED = ("latency_ms", "fps")


def command(out: Path) -> list[str]:
    targets = [str(p.values[0]) for p in RUNNABLE if not p.marks]
    chosen = [f"--target={t}" for t in targets] + [f"--precision={p}" for p in PRECISIONS]
    return [
        sys.executable, "-c", "from edgeseg.cli import main; main()", "matrix", *MODELS, *chosen,
        "--size", "64x96", "--data", "streets:2@64x96:val",
        "--calibration", "streets:4@64x96:train", "--seconds", "0.05", "--out", str(out),
    ]  # fmt: skip


def run(out: Path, kill_after: float | None = None) -> None:
    """To its end, or with SIGKILL to all of it after so many seconds."""
    process = subprocess.Popen(
        command(out), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(kill_after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def table(out: Path) -> list[dict[str, Any]]:
    """What does not depend on the clock: which cells there are, whether they passed, agreement, size or error."""
    runs = json.loads((out / "results.json").read_text())["runs"]
    keys = ("model", "variant", "target", "precision", "size_mb", "error")
    return [{k: r.get(k) for k in keys} | {"parity": r.get("parity")} for r in runs]


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("EDGESEG_SLOW"), reason="minutes: set EDGESEG_SLOW=1")
def test_killed_at_random_moments_it_ends_with_the_same_table(tmp_path: Path) -> None:
    begin = time.monotonic()
    run(tmp_path / "whole")
    took, seed = time.monotonic() - begin, random.SystemRandom().randrange(10**6)
    moments = random.Random(seed)
    for _ in range(3):
        run(tmp_path / "killed", moments.uniform(0.1, 0.5) * took)
        done = {path.name: path.read_bytes() for path in (tmp_path / "killed" / "cells").glob("*.json")}
        assert all(json.loads(content) for content in done.values())
    run(tmp_path / "killed")
    assert all((tmp_path / "killed" / "cells" / name).read_bytes() == content for name, content in done.items())
    found, wanted = table(tmp_path / "killed"), table(tmp_path / "whole")
    assert len(wanted) == len(MODELS) * len(PRECISIONS) * len([p for p in RUNNABLE if not p.marks])
    assert found == wanted, f"seed {seed}"
    print(f"{len(wanted)} cells, {took:.0f} s whole, seed {seed}")
