"""The targets: the public modules that stand both here and in ``edgeseg.runtimes``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol, cast

import onnx_ir as ir

from edgeseg.errors import InputError


class Target(Protocol):
    """What a target's file offers. ``compile`` writes the vendor's files into ``folder`` and names them;
    ``weight_levels`` is the largest int8 weight that this machine's kernels compute exactly with."""

    PRECISIONS: tuple[str, ...]

    def compile(self, model: ir.Model, precision: str, folder: Path) -> list[str]: ...
    def toolchain(self) -> dict[str, str]: ...
    def weight_levels(self) -> int: ...


def names() -> list[str]:
    here, twins = Path(__file__).parent, Path(__file__).parent.parent / "runtimes"
    return sorted(f.stem for f in here.glob("[a-z]*.py") if (twins / f.name).is_file())


def load(name: str, precision: str) -> Target:
    """The target's module. Raises InputError for a name or precision that is none, MissingExtra."""
    if name not in names():
        raise InputError(f"unknown target '{name}': use one of {', '.join(names())}")
    target = cast(Target, importlib.import_module(f"edgeseg.export.{name}"))
    if precision not in target.PRECISIONS:
        raise InputError(f"target {name} has no precision '{precision}': use one of {', '.join(target.PRECISIONS)}")
    return target
