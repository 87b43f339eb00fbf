"""The reference networks: a public file in this folder is a network. Nothing here knows a target.

A network's file has ``SPEC`` (a ModelSpec), ``build(classes, variant)`` and ``classes_of(state)``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from edgeseg.errors import InputError, MissingExtra

try:
    from torch import Tensor, nn
except ImportError:
    raise MissingExtra("building or checking networks", "torch", "export") from None

from edgeseg.manifest import ModelEntry, Weights
from edgeseg.models import _count, _weights
from edgeseg.spec import ModelSpec, Variant


class ModelFile(Protocol):
    """What a public file of this folder offers."""

    SPEC: ModelSpec

    def build(self, classes: int, variant: str) -> nn.Module: ...
    def classes_of(self, state: Mapping[str, Tensor]) -> int | None: ...


@dataclass(frozen=True)
class Network:
    """A network with its weights, in evaluation mode."""

    spec: ModelSpec
    variant: Variant
    classes: int
    module: nn.Module
    weights: Weights

    def entry(self, size: tuple[int, int]) -> ModelEntry:
        """The manifest's facts; multiply-accumulates are counted at the input ``size``."""
        parameters, gmacs = _count.parameters(self.module), _count.gmacs(self.module, size)
        v = self.variant
        return ModelEntry(self.spec.name, v.name, self.spec.task, parameters, gmacs, v.paper, self.weights)


def names() -> list[str]:
    """The networks there are."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def file(name: str) -> ModelFile:
    """The network's module. Raises InputError for a name that is none."""
    if name not in names():
        raise InputError(f"unknown model '{name}': use one of {', '.join(names())}")
    return cast(ModelFile, importlib.import_module(f"edgeseg.models.{name}"))


def spec(name: str) -> ModelSpec:
    return file(name).SPEC


def load(
    name: str, weights: str | Path | None = None, variant: str | None = None, classes: int | None = None
) -> Network:
    """The network ``name`` with weights.

    Args:
        weights: a checkpoint (``.pth``, ``.pt``: a state dict; ``.safetensors``), ``packaged:FILE``, or None:
            the weights that the package carries.
        variant: None takes the variant that the checkpoint fits.
        classes: None takes the checkpoint's number.

    Raises:
        InputError: unknown model or variant, unreadable checkpoint, or one of another network (names its keys).
    """
    module_file = file(name)
    source = _weights.find(name, weights)
    state = _weights.read(source)
    chosen = _variants(module_file.SPEC, variant)
    found = module_file.classes_of(state)
    if classes is not None and found is not None and classes != found:
        raise InputError(
            f"{source.name} was trained for {found} classes, not {classes}: leave --classes out or train anew"
        )
    count = classes or found or chosen[0].classes
    attempts = [(v, module_file.build(count, v.name)) for v in chosen]
    picked = min(attempts, key=lambda attempt: _weights.misfit(attempt[1], state))
    _weights.fill(picked[1], state, f"{module_file.SPEC.title} ({picked[0].name})", source)
    origin = Weights(_weights.origin(source), _weights.digest(source))
    return Network(module_file.SPEC, picked[0], count, picked[1].eval(), origin)


def _variants(model: ModelSpec, wanted: str | None) -> list[Variant]:
    if wanted is None:
        return list(model.variants)
    found = [v for v in model.variants if v.name == wanted]
    if not found:
        raise InputError(
            f"{model.name} has no variant '{wanted}': use one of {', '.join(v.name for v in model.variants)}"
        )
    return found
