"""Hold CPU and GPU clocks at their highest for the length of a block, and put back what was there, come what may.

Writes ``scaling_governor``, ``scaling_min_freq`` (cpufreq) and ``min_freq`` (devfreq GPUs); wants root. What an end by
SIGKILL or a power cut leaves behind cannot be put back; a reboot does. Sources: the kernel's cpufreq and devfreq
documents. On a Jetson ``jetson_clocks --store`` and ``--restore`` do the same and the memory clock too.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from edgeseg.errors import InputError

Setting = tuple[Path, str]


@contextmanager
def locked(root: Path = Path("/")) -> Iterator[None]:
    """Clocks held at their highest within; restored at its end, on errors, Ctrl-C and SIGTERM.

    Raises:
        InputError: no clocks to set here, or no right to.
    """
    wanted = _wanted(root)
    if not wanted:
        raise InputError("this machine shows no clocks to lock (a virtual machine?): leave --lock-clocks out")
    before = [(path, path.read_text(encoding="utf-8").strip()) for path, _ in wanted]
    with _terminated_as_interrupted():
        try:
            for path, value in wanted:
                _write(path, value)
            yield
        finally:
            _restore(before)


def _restore(before: list[Setting]) -> None:
    """All of them, also where one cannot be written; a second Ctrl-C waits until it is done."""
    failed: InputError | None = None
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        for path, value in reversed(before):
            try:
                _write(path, value)
            except InputError as error:
                failed = failed or error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    if failed:
        raise failed


def _wanted(root: Path) -> list[Setting]:
    found = []
    for policy in sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*")):
        top, governors = _text(policy / "scaling_max_freq"), _text(policy / "scaling_available_governors")
        if "performance" in (governors or "").split():
            found.append((policy / "scaling_governor", "performance"))
        if top and _text(policy / "scaling_min_freq"):
            found.append((policy / "scaling_min_freq", top))
    for device in sorted((root / "sys/class/devfreq").glob("*")):
        top = _text(device / "max_freq")
        if ("gpu" in device.name or "gpc" in device.name) and top and _text(device / "min_freq"):
            found.append((device / "min_freq", top))
    return found


def _write(path: Path, value: str) -> None:
    try:
        path.write_text(value, encoding="utf-8")
    except OSError as error:
        raise InputError(f"clocks cannot be set ({path}: {error.strerror}): run with sudo") from None


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that what was changed is put back."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
