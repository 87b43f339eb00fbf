"""Checkpoints: found, read without running code from them, and fitted with a list of what does not fit."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from edgeseg.artifact import sha256
from edgeseg.errors import InputError

PACKAGED = Path(__file__).parent / "weights"
PREFIX = "packaged:"
SHOWN = 6


def packaged(model: str) -> list[Path]:
    """The files of weights of ``model`` that the package carries."""
    return sorted(PACKAGED.glob(f"{model}-*.safetensors"))


def trained_size(path: Path) -> tuple[int, int] | None:
    """The network input (height, width) that weights which ``train`` wrote were trained at; None where unsaid."""
    with safe_open(path, "pt") as file:
        notes = file.metadata() or {}
    if "size" not in notes:
        return None
    height, width = map(int, notes["size"].split("x"))
    return height, width


def find(model: str, weights: str | Path | None) -> Path:
    """The checkpoint's file: as given, packaged by name, or the packaged one of ``model``."""
    if weights is None:
        found = packaged(model)
        if not found:
            raise InputError(f"no weights of {model} come with the package: give --weights FILE")
        return found[0]
    path = PACKAGED / str(weights).removeprefix(PREFIX) if str(weights).startswith(PREFIX) else Path(weights)
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}: check --weights")
    return path


def origin(path: Path) -> str:
    """How a manifest names the checkpoint."""
    return PREFIX + path.name if path.parent == PACKAGED else str(path.resolve())


def digest(path: Path) -> str:
    return sha256(path)


def read(path: Path) -> dict[str, Tensor]:
    """The state dict in ``path``; wrappers (``state_dict``, ``model``) and DataParallel's prefix fall away."""
    state: Any
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                state = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        KeyError,
        TypeError,
        zipfile.BadZipFile,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path} is no checkpoint that can be read safely ({reason}): save a plain state dict or safetensors"
        ) from None
    for wrapper in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path} holds no state dict: save model.state_dict()")
    return {str(k).removeprefix("module."): v for k, v in state.items()}


def misfit(module: nn.Module, state: Mapping[str, Tensor]) -> int:
    """How many tensors of either side have no counterpart of the same name and shape on the other."""
    return sum(len(part) for part in _differences(module, state))


def fill(module: nn.Module, state: Mapping[str, Tensor], network: str, path: Path) -> None:
    """Load ``state`` into ``module``; every tensor must have its place. Heads that only training uses (the module's
    ``training_only``: their names' beginnings) may be absent.

    Raises:
        InputError: names the tensors that are missing, unknown or of another shape.
    """
    missing, unknown, shapes = _differences(module, state)
    missing = [k for k in missing if not k.startswith(getattr(module, "training_only", ()))]
    if missing or unknown or shapes:
        parts = [("missing", missing), ("unknown", unknown), ("other shape", shapes)]
        listed = "; ".join(f"{len(keys)} {what}: {_some(keys)}" for what, keys in parts if keys)
        raise InputError(f"{path} does not fit {network}: {listed}")
    module.load_state_dict(dict(state), strict=False)  # BatchNorm's batch counters may be absent too


def _differences(module: nn.Module, state: Mapping[str, Tensor]) -> tuple[list[str], list[str], list[str]]:
    own = {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    given = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    missing = [k for k in own if k not in given]
    unknown = [k for k in given if k not in own]
    shapes = [
        f"{k} {list(given[k].shape)}≠{list(own[k].shape)}" for k in own if k in given and given[k].shape != own[k].shape
    ]
    return missing, unknown, shapes


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (", …" if len(keys) > SHOWN else "")
