"""The reference networks: a public file in this folder is a network. Nothing here knows a target.

A network's file has ``SPEC`` (a ModelSpec), ``build(classes, variant)`` and ``classes_of(state)``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from edgeseg.errors import InputError, MissingExtra

try:
    import torch
    from torch import Tensor, nn
except ImportError:
    raise MissingExtra("building or checking networks", "torch", "export") from None

from edgeseg.manifest import ModelEntry, Weights
from edgeseg.models import _count, _random, _weights
from edgeseg.spec import ModelSpec, Variant


class ModelFile(Protocol):
    """What a public file of this folder offers. One whose weights are published under other names (``.npz`` files
    of another framework) is an Importer too."""

    SPEC: ModelSpec

    def build(self, classes: int, variant: str) -> nn.Module: ...
    def classes_of(self, state: Mapping[str, Tensor]) -> int | None: ...


@runtime_checkable
class Importer(Protocol):
    """``import_state`` takes every tensor of a checkpoint as the file names and shapes it and gives this network's
    state dict: renamed, kernels transposed to PyTorch's order (OIHW). What is not of that origin it gives back as it
    came. Merged batch normalisations become ``weight`` 1, ``bias`` the offset, ``running_mean`` 0 and
    ``running_var`` 1 - eps, so that they are the identity plus the offset, and training can go on."""

    def import_state(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]: ...


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


def packaged() -> list[str]:
    """The networks whose weights the package carries."""
    return [name for name in names() if _weights.packaged(name)]


def packaged_size(name: str, frame: tuple[int, int]) -> tuple[int, int]:
    """The network input (height, width) for frames of (height, width) that the packaged weights of ``name`` want."""
    (path, *_) = _weights.packaged(name)
    return _weights.trained_size(path) or spec(name).fitting(frame)


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
        weights: a checkpoint (``.pth``, ``.pt``: a state dict; ``.safetensors``; ``.npz``), ``packaged:FILE``,
            ``random:SEED``, or None: the weights that the package carries.
        variant: None takes the variant that the checkpoint fits; the paper's for random weights.
        classes: None takes the checkpoint's number.

    Raises:
        InputError: unknown model or variant, unreadable checkpoint, or one of another network (names its keys).
    """
    module_file = file(name)
    if str(weights).startswith(_random.PREFIX):
        return _drawn(module_file, _seed(str(weights)), _variants(module_file.SPEC, variant)[0], classes)
    source = _weights.find(name, weights)
    state: Mapping[str, Tensor] = _weights.read(source)
    if isinstance(module_file, Importer):
        state = module_file.import_state(state)
    chosen = _variants(module_file.SPEC, variant)
    found = module_file.classes_of(state)
    if classes is not None and found is not None and classes != found:
        raise InputError(
            f"{source.name} was trained for {found} classes, not {classes}: leave --classes out or train anew"
        )
    count = classes or found or chosen[0].classes
    picked = fitting(module_file, state, count, chosen)
    module = module_file.build(count, picked.name)
    _weights.fill(module, state, f"{module_file.SPEC.title} ({picked.name})", source)
    origin = Weights(_weights.origin(source), _weights.digest(source))
    return Network(module_file.SPEC, picked, count, module.eval(), origin)


def fitting(module_file: ModelFile, state: Mapping[str, Tensor], classes: int, chosen: Sequence[Variant]) -> Variant:
    """The one of ``chosen`` that ``state`` fits best; the first of several that fit alike."""
    misfits = []
    for variant in chosen:
        misfits.append(_weights.misfit(_shapes(module_file, classes, variant), state))
        if misfits[-1] == 0:
            break
    return chosen[misfits.index(min(misfits))]


def _shapes(module_file: ModelFile, classes: int, variant: Variant) -> nn.Module:
    """The network without its numbers."""
    with torch.device("meta"):
        return module_file.build(classes, variant.name)


def _seed(weights: str) -> int:
    text = weights.removeprefix(_random.PREFIX)
    if not text.isdecimal():
        raise InputError(f"--weights {weights}: random weights want a number, as in {_random.PREFIX}1")
    return int(text)


def _drawn(module_file: ModelFile, seed: int, variant: Variant, classes: int | None) -> Network:
    model, count = module_file.SPEC, classes or variant.classes
    torch.manual_seed(seed)
    module = _random.settle(module_file.build(count, variant.name), variant, model.stride)
    origin = Weights(f"{_random.PREFIX}{seed}", _random.digest(model.name, variant.name, seed))
    return Network(model, variant, count, module, origin)


def _variants(model: ModelSpec, wanted: str | None) -> list[Variant]:
    if wanted is None:
        return list(model.variants)
    found = [v for v in model.variants if v.name == wanted]
    if not found:
        raise InputError(
            f"{model.name} has no variant '{wanted}': use one of {', '.join(v.name for v in model.variants)}"
        )
    return found
