"""Images with labels. A file in this folder is a kind of data; ``KIND:PATH[:SPLIT]`` opens it."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.spec import ClassSpec


@dataclass(frozen=True)
class Sample:
    """One image: ``frame`` uint8 H×W×3 RGB; ``labels`` uint8 H×W class ids, or None;
    ``boxes`` float32 N×4 (x0 y0 x1 y1, pixels) with ``box_classes`` int32 N, or None; ``crowd`` bool N marks
    the boxes that stand for a group, which neither hits nor misses are counted in."""

    name: str
    frame: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None = None
    boxes: NDArray[np.float32] | None = None
    box_classes: NDArray[np.int32] | None = None
    crowd: NDArray[np.bool_] | None = None


class Dataset(Protocol):
    """A sequence of samples. ``classes[i]`` is label id i; ``ignore_index`` is not scored."""

    @property
    def classes(self) -> tuple[ClassSpec, ...]: ...
    @property
    def ignore_index(self) -> int | None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...


def kinds() -> list[str]:
    """The kinds of data there are: the public modules of this package."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def open_dataset(spec: str) -> Dataset:
    """Open ``KIND:PATH[:SPLIT]``.

    Raises:
        InputError: unknown kind, or the kind finds nothing it can read there.
    """
    kind, _, rest = spec.partition(":")
    if kind not in kinds():
        raise InputError(f"unknown data kind '{kind}' in '{spec}': use one of {', '.join(kinds())}")
    path, _, split = rest.rpartition(":") if ":" in rest else (rest, "", "")
    dataset: Dataset = importlib.import_module(f"edgeseg.datasets.{kind}").open_split(path, split)
    return dataset
