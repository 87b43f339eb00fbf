"""Clocks are held within and put back after, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeseg.benchmarks.lock_clocks import locked
from edgeseg.errors import InputError
from edgeseg.selfcheck import environment

FILES = {
    "devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil",
    "devices/system/cpu/cpufreq/policy0/scaling_available_governors": "performance schedutil",
    "devices/system/cpu/cpufreq/policy0/scaling_min_freq": "345600",
    "devices/system/cpu/cpufreq/policy0/scaling_max_freq": "2035200",
    "class/devfreq/17000000.gpu/min_freq": "114750000",
    "class/devfreq/17000000.gpu/max_freq": "1134750000",
    "class/devfreq/other/min_freq": "1",
    "class/devfreq/other/max_freq": "2",
}
HELD = {
    "devices/system/cpu/cpufreq/policy0/scaling_governor": "performance",
    "devices/system/cpu/cpufreq/policy0/scaling_min_freq": "2035200",
    "class/devfreq/17000000.gpu/min_freq": "1134750000",
}


@pytest.fixture
def board(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def state(root: Path) -> dict[str, str]:
    return {name: (root / "sys" / name).read_text() for name in FILES}


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_held_within_and_put_back_after(board: Path, error: type[BaseException] | None) -> None:
    try:
        with locked(board):
            assert state(board) == {**FILES, **HELD}
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    assert state(board) == FILES


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_puts_them_back(board: Path, number: signal.Signals) -> None:
    code = (
        "import signal, sys, time; from pathlib import Path; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from edgeseg.benchmarks.lock_clocks import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(board)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment()
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    assert state(board) == {**FILES, **HELD}
    process.send_signal(number)
    assert process.wait(30) != 0
    process.stdout.close()
    assert state(board) == FILES


def test_what_cannot_be_set_is_said(tmp_path: Path, board: Path) -> None:
    with pytest.raises(InputError, match="no clocks to lock"), locked(tmp_path / "none"):
        pass
    if os.geteuid() == 0:
        pytest.skip("root may write everything")
    (board / "sys/class/devfreq/17000000.gpu/min_freq").chmod(0o444)
    with pytest.raises(InputError, match="run with sudo"), locked(board):
        pass
    assert time.monotonic() and state(board) == FILES
