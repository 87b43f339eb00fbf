"""Opens an artifact where a crash of the vendor's code hurts nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edgeseg.errors import CheckFailed


def selfcheck(folder: Path, name: str) -> None:
    """The golden self-test of the artifact in ``folder``, in a fresh process, as its users will open it.

    Raises:
        CheckFailed: it does not open there, ends in a crash, or does not give the golden outputs.
    """
    path = os.pathsep.join(p for p in sys.path if p)
    command = [sys.executable, "-m", "edgeseg.runtimes", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        raise CheckFailed(f"{name} failed its self-check and was not kept: {reason}")
