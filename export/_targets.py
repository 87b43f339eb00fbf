"""The targets: the public modules that stand both here and in ``edgeseg.runtimes``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import onnx_ir as ir

from edgeseg.errors import InputError, MissingExtra


class Target(Protocol):
    """What a target's file offers. ``compile`` writes the vendor's files into ``folder`` and names them;
    ``weight_levels`` is the largest int8 weight that this machine's kernels compute exactly with."""

    PRECISIONS: tuple[str, ...]

    def compile(self, model: ir.Model, precision: str, folder: Path) -> list[str]: ...
    def toolchain(self) -> dict[str, str]: ...
    def weight_levels(self) -> int: ...


@runtime_checkable
class DeviceBound(Protocol):
    """What a target's file offers besides where its engines are for one kind of device: ``device``, the manifest's
    part on it, and ``cannot_run``, what keeps engines from running on this machine ("no …"), None where they may."""

    def device(self) -> dict[str, Any]: ...
    def cannot_run(self) -> str | None: ...


@runtime_checkable
class Suppressing(Protocol):
    """What a target's file says besides where its vendor makes boxes in the graph as ``edgeseg.boxes`` does, in less
    time: ``SUPPRESSES``."""

    SUPPRESSES: bool


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
    if isinstance(target, DeviceBound):
        target.toolchain()  # MissingExtra: it imports its package when it is needed
    return target


def suppresses(target: Target) -> bool:
    """Whether ``target``'s engines make boxes themselves."""
    return isinstance(target, Suppressing) and target.SUPPRESSES


def device(target: Target) -> dict[str, Any] | None:
    """What the manifest says of the device that ``target`` compiles for here; None where any will do."""
    return target.device() if isinstance(target, DeviceBound) else None


def unproven(target: Target) -> str | None:
    """What the manifest says of an engine that this machine can build but not run; None where it can."""
    reason = target.cannot_run() if isinstance(target, DeviceBound) else None
    if reason is None:
        return None
    return f"never run: built on a machine with {reason}; edgeseg verify proves it where it runs"


def why_not(name: str) -> str | None:
    """Why engines of target ``name`` cannot be both built and run here: its package or its device is missing."""
    try:
        target = load(name, "fp32")
    except MissingExtra as missing:
        return str(missing)
    reason = target.cannot_run() if isinstance(target, DeviceBound) else None
    return None if reason is None else f"target {name} cannot run here: {reason}"
