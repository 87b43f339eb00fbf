"""Calibration at 512×1024 stays within 2 GiB, whatever the number of images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BOUND_MIB = 2048


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="resident memory is read from Linux's /proc")
def test_memory_is_bounded() -> None:
    peaks = []
    for images in (1, 6):
        command = [sys.executable, "-m", "tests.scripts.calibration_memory", "enet", str(images)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks.append(json.loads(done.stdout)["calibration_mib"])
    assert max(peaks) < BOUND_MIB
    assert peaks[1] < peaks[0] + 64  # ten frames more would be 15 MiB, their tensors gigabytes
