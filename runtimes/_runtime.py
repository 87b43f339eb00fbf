"""What every target's runtime offers, and the one check of what it is fed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.spec import TensorSpec

Feeds = Mapping[str, NDArray[Any]]
Outputs = dict[str, NDArray[Any]]


class Runtime(Protocol):
    """An opened engine. ``run`` may be called from several threads; the arrays it returns are the caller's."""

    def run(self, feeds: Feeds) -> Outputs: ...
    def close(self) -> None: ...


def check_feeds(feeds: Feeds, inputs: tuple[TensorSpec, ...], *, numpy_only: bool = True) -> None:
    """Raises InputError where a feed is missing, unknown, or of another shape or dtype than the engine's; with
    ``numpy_only`` also where it is no NumPy array. Arrays on a GPU tell shape and dtype as NumPy's do, PyTorch's dtypes
    by their last name, others in ``__cuda_array_interface__``."""
    if set(feeds) != {spec.name for spec in inputs}:
        raise InputError(f"the engine takes {[spec.name for spec in inputs]}, not {sorted(feeds)}")
    for spec in inputs:
        feed = feeds[spec.name]
        if isinstance(feed, np.ndarray) and feed.shape == spec.shape and feed.dtype == spec.dtype:
            continue  # as almost always; the rest finds the words, at some microseconds
        if numpy_only and not isinstance(feed, np.ndarray):
            raise InputError(f"'{spec.name}' must be a NumPy array for this target, not {type(feed).__name__}")
        shape, dtype = _form(feed)
        if shape != spec.shape or dtype != spec.dtype:
            raise InputError(f"'{spec.name}' must be {spec.dtype} {list(spec.shape)}, got {dtype} {list(shape)}")


def _form(array: Any) -> tuple[tuple[int, ...], str]:
    if hasattr(array, "dtype"):
        return tuple(array.shape), str(array.dtype).rpartition(".")[2]
    described = getattr(array, "__cuda_array_interface__", None)
    if described is None:
        raise InputError(f"a feed must be an array, not {type(array).__name__}")
    return tuple(described["shape"]), str(np.dtype(described["typestr"]))
