"""The vendors' quantizers: a public module here is one, called as its vendor documents the default.

``TITLE`` and ``CALL`` are for the table, ``TARGET`` names the artifact that it starts from and the runtime that runs
what it makes; ``PACKAGES`` are what its figures depend on. ``quantize(source, frames, folder)`` reads the float
artifact's files in ``source``, calibrates on ``frames`` (uint8 H×W×3 each) and writes the same file names into
``folder``; it gives them back. Its package is imported when the module is chosen.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edgeseg.errors import InputError, MissingExtra

Frames = Sequence[NDArray[np.uint8]]


class Vendor(Protocol):
    TITLE: str
    CALL: str
    TARGET: str
    PACKAGES: tuple[str, ...]

    def quantize(self, source: Path, frames: Frames, folder: Path) -> list[str]: ...


def names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def load(name: str) -> Vendor:
    """The quantizer's module. Raises InputError for a name that is none, MissingExtra."""
    if name not in names():
        raise InputError(f"unknown quantizer '{name}': use one of ours, {', '.join(names())}")
    try:
        return cast(Vendor, importlib.import_module(f"{__name__}.{name}"))
    except ModuleNotFoundError as error:
        raise MissingExtra(f"quantizer {name}", str(error.name), "quantizers") from None
