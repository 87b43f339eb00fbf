"""Opens an artifact where a crash of the vendor's code hurts nobody."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.artifact import load
from edgeseg.errors import CheckFailed
from edgeseg.spec import TensorSpec

SERVE = "-"  # asks ``python -m edgeseg.runtimes`` for what ``answering`` speaks with


def selfcheck(folder: Path, name: str) -> None:
    """The golden self-test of the artifact in ``folder``, in a fresh process, as its users will open it.

    Raises:
        CheckFailed: it does not open there, ends in a crash, or does not give the golden outputs.
    """
    if reason := _fails(folder):
        said = reason.removeprefix(f"{folder}: ").removeprefix(f"{folder.name}: ")  # which may be a temporary one
        raise CheckFailed(f"{name} failed its self-check and was not kept: {said.replace(str(folder), name)}")


@contextmanager
def answering(folder: Path) -> Iterator[Callable[[NDArray[np.uint8]], dict[str, NDArray[Any]]]]:
    """The artifact in ``folder`` opened in a fresh process that answers frames uint8 H×W×3 with its outputs, until this
    ends.

    Raises:
        CheckFailed: it does not open there, or ends in a crash; when a frame is asked about.
    """
    specs = load(folder).manifest.outputs
    with tempfile.TemporaryFile() as said:
        command = [*_command(folder), SERVE]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, env=environment()
        )
        assert process.stdin is not None and process.stdout is not None
        send, pipe = process.stdin, process.stdout

        def answer(frame: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
            try:
                send.write(frame.tobytes())
                send.flush()
                return {spec.name: receive(pipe, spec) for spec in specs}
            except (BrokenPipeError, EOFError):
                status = process.wait()
                said.seek(0)
                raise CheckFailed(_last(said.read().decode(errors="replace"), status)) from None

        try:
            yield answer
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


def receive(pipe: IO[bytes], spec: TensorSpec) -> NDArray[Any]:
    """The next tensor. Raises EOFError: the other end has closed."""
    dtype = np.dtype(spec.dtype)
    content = pipe.read(wanted := math.prod(spec.shape) * dtype.itemsize)
    if len(content) < wanted:
        raise EOFError
    return np.frombuffer(content, dtype).reshape(spec.shape)


def _fails(folder: Path) -> str | None:
    done = subprocess.run(_command(folder), capture_output=True, text=True, env=environment(), check=False)
    return _last(done.stderr, done.returncode) if done.returncode else None


def _command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "edgeseg.runtimes", str(folder)]


def environment() -> dict[str, str]:
    """This process's environment, with this process's import path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def _last(said: str, status: int) -> str:
    return (said.strip().splitlines() or [f"it ended with status {status}"])[-1]
