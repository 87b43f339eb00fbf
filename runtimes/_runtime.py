"""What every target's runtime offers, and the one check of what it is fed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeseg.errors import ArtifactError, InputError
from edgeseg.manifest import Manifest
from edgeseg.spec import TensorSpec

Feeds = Mapping[str, NDArray[Any]]
Outputs = dict[str, NDArray[Any]]


class Runtime(Protocol):
    """An opened engine. ``run`` may be called from several threads; outputs that ``out`` names are written into it,
    and the other arrays that it returns are the caller's."""

    def run(self, feeds: Feeds, out: Feeds | None = None) -> Outputs: ...
    def close(self) -> None: ...


def check_feeds(feeds: Feeds, inputs: tuple[TensorSpec, ...], *, numpy_only: bool = True) -> None:
    """Raises InputError where a feed is missing, unknown, or of another shape or dtype than the engine's; with
    ``numpy_only`` also where it is no NumPy array. Arrays on a GPU tell shape and dtype as NumPy's do, PyTorch's dtypes
    by their last name, others in ``__cuda_array_interface__``."""
    if not isinstance(feeds, Mapping):
        raise InputError(f"feeds must be a mapping from names to arrays, not {type(feeds).__name__}")
    if set(feeds) != {spec.name for spec in inputs}:
        raise InputError(f"the engine takes {[spec.name for spec in inputs]}, not {sorted(map(str, feeds))}")
    for spec in inputs:
        feed = feeds[spec.name]
        if isinstance(feed, np.ndarray) and feed.shape == spec.shape and feed.dtype == spec.dtype:
            continue  # as almost always; the rest finds the words, at some microseconds
        if numpy_only and not isinstance(feed, np.ndarray):
            raise InputError(f"'{spec.name}' must be a NumPy array for this target, not {type(feed).__name__}")
        shape, dtype = _form(feed)
        if shape != spec.shape or dtype != spec.dtype:
            raise InputError(f"'{spec.name}' must be {spec.dtype} {list(spec.shape)}, got {dtype} {list(shape)}")


def check_out(out: Feeds, outputs: tuple[TensorSpec, ...]) -> None:
    """Raises InputError where ``out`` names an output that there is not, or an array that cannot take it."""
    if not isinstance(out, Mapping):
        raise InputError(f"out must be a mapping from names to arrays, not {type(out).__name__}")
    specs = {spec.name: spec for spec in outputs}
    if unknown := sorted(str(name) for name in out if name not in specs):
        raise InputError(f"the engine gives {sorted(specs)}, not {unknown}")
    for name, array in out.items():
        check_buffer(array, specs[name].dtype, specs[name].shape, f"'{name}' of out")


def check_buffer(array: Any, dtype: str, shape: tuple[int, ...], what: str) -> None:
    """Raises InputError where ``array`` is not a writable C-contiguous NumPy array of ``dtype`` and ``shape``."""
    if not isinstance(array, np.ndarray):
        raise InputError(f"{what} must be a NumPy array, {dtype} {list(shape)}, not {type(array).__name__}")
    if array.shape != shape or str(array.dtype) != dtype:
        raise InputError(f"{what} must be {dtype} {list(shape)}, got {array.dtype} {list(array.shape)}")
    if not (array.flags.c_contiguous and array.flags.writeable):
        raise InputError(f"{what} must be C-contiguous and writable")


def buffers(specs: Iterable[TensorSpec], out: Feeds | None) -> Outputs:
    """The arrays that outputs are written into: those of ``out``, new ones for the rest."""
    given = {} if out is None else out
    return {s.name: given[s.name] if s.name in given else np.empty(s.shape, s.dtype) for s in specs}


def check_ends(vendor: str, found: Mapping[str, tuple[tuple[int, ...], str]], manifest: Manifest) -> None:
    """``found``: shape and dtype, as NumPy spells it, of each input and output that ``vendor`` sees in its file.

    Raises:
        ArtifactError: they are not the manifest's.
    """
    stated = {spec.name: (spec.shape, spec.dtype) for spec in (*manifest.inputs, *manifest.outputs)}
    for name in sorted(stated.keys() | found.keys()):
        if stated.get(name) != found.get(name):
            ours, theirs = (_told(ends.get(name)) for ends in (stated, found))
            raise ArtifactError(
                f"manifest.json says that '{name}' is {ours}, {vendor} says that it is {theirs}:"
                " these files do not belong together; build the artifact again"
            )


def _told(end: tuple[tuple[int, ...], str] | None) -> str:
    return "absent" if end is None else f"{end[1]} {list(end[0])}"


def _form(array: Any) -> tuple[tuple[int, ...], str]:
    if hasattr(array, "dtype"):
        return tuple(array.shape), str(array.dtype).rpartition(".")[2]
    described = getattr(array, "__cuda_array_interface__", None)
    if described is None:
        raise InputError(f"a feed must be an array, not {type(array).__name__}")
    return tuple(described["shape"]), str(np.dtype(described["typestr"]))
