"""Whole numbers in the kernel's files."""

from __future__ import annotations

import re
from pathlib import Path

from edgeseg.errors import DeviceError


def read_number(path: Path) -> int:
    """Raises OSError where it cannot be read, DeviceError where it holds no number."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return parse_number(text)
    except ValueError:
        raise DeviceError(f"{path} holds '{text.strip()[:40]}', not a whole number") from None


def parse_number(text: str) -> int:
    """A decimal number and perhaps a line's end, nothing else. Raises ValueError. (int() takes 5_000 and ٥, too.)"""
    if not re.fullmatch(r"-?[0-9]{1,18}\n?", text):
        raise ValueError(text)
    return int(text)
