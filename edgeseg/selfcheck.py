"""Opens an artifact where a crash of the vendor's code hurts nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.errors import CheckFailed


def selfcheck(folder: Path, name: str) -> None:
    """The golden self-test of the artifact in ``folder``, in a fresh process, as its users will open it.

    Raises:
        CheckFailed: it does not open there, ends in a crash, or does not give the golden outputs.
    """
    if reason := _fails(folder):
        said = reason.removeprefix(f"{folder}: ").removeprefix(f"{folder.name}: ")  # which may be a temporary one
        raise CheckFailed(f"{name} failed its self-check and was not kept: {said.replace(str(folder), name)}")


def outputs(folder: Path, file: Path) -> dict[str, NDArray[Any]]:
    """What the artifact in ``folder`` gives for its golden frame, in a fresh process that leaves it in ``file``.

    Raises:
        CheckFailed: it does not open there, or ends in a crash.
    """
    if reason := _fails(folder, str(file)):
        raise CheckFailed(reason)
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _fails(folder: Path, *arguments: str) -> str | None:
    path = os.pathsep.join(p for p in sys.path if p)
    command = [sys.executable, "-m", "edgeseg.runtimes", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    if not done.returncode:
        return None
    return (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
