"""What calibration frames showed, kept from build to build: found by all that it follows from, or not at all.

An entry is one safetensors file of arrays, with its *facts* (what they follow from: digests of graph, weights, frames;
versions) and a hash over both in its header. It is written whole and renamed into place, so builds at the same time
do each other no harm; one that does not hold its hash is passed over. ``EDGESEG_CACHE`` names another folder than
the platform's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgeseg.artifact import write_whole

Facts = Mapping[str, str | list[str]]
Arrays = dict[str, NDArray[np.generic]]
SUFFIX = ".safetensors"
MOST = 1 << 29  # bytes of all entries: the oldest go first
UNREADABLE = (OSError, SafetensorError, KeyError, TypeError, ValueError)


class Damaged(Exception):
    """An entry that cannot be read, or does not hold what was written."""


def default_folder() -> Path:
    """Where entries are kept unless told otherwise."""
    own = os.environ.get("EDGESEG_CACHE")
    return (Path(own) if own else platformdirs.user_cache_path("edgeseg", appauthor=False)) / "calibrations"


class Store:
    """The entries of ``folder`` that bear ``name``: those of one network on one kind of data."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = hashlib.sha256(name.encode()).hexdigest()[:16]

    def recall(self, facts: Facts) -> Arrays | None:
        """The arrays that follow from ``facts``; None where none are kept.

        Raises:
            Damaged: they are kept, but not whole.
        """
        path = self._path(facts)
        if not path.exists():
            return None
        try:
            with safe_open(path, "numpy") as file:
                header, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            whole = header["sha256"] == _digest(header["facts"], arrays) and json.loads(header["facts"]) == dict(facts)
        except UNREADABLE:
            whole = False
        if not whole:
            raise Damaged(path.name)
        with contextlib.suppress(OSError):
            path.touch()
        return arrays

    def others(self) -> list[Facts]:
        """The facts of all entries, the newest first; of damaged ones, none."""
        found = []
        for path in _newest(self._folder, self._name):
            try:
                with safe_open(path, "numpy") as file:
                    found.append(json.loads(file.metadata()["facts"]))
            except UNREADABLE:
                continue
        return [facts for facts in found if isinstance(facts, dict)]

    def keep(self, facts: Facts, arrays: Arrays) -> None:
        """Write them. Raises OSError where the folder does not take them; nothing half-written is left."""
        told = json.dumps(facts, sort_keys=True)
        content = save(arrays, {"facts": told, "sha256": _digest(told, arrays)})
        write_whole(self._path(facts), content)
        _drop_oldest(self._folder)

    def _path(self, facts: Facts) -> Path:
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return self._folder / f"{self._name}-{key[:32]}{SUFFIX}"


def _digest(facts: str, arrays: Arrays) -> str:
    digest = hashlib.sha256(facts.encode())
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _newest(folder: Path, name: str = "") -> list[Path]:
    dated = []
    for path in folder.glob(f"{name}*{SUFFIX}"):
        with contextlib.suppress(OSError):  # another build may drop it meanwhile
            dated.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(dated, reverse=True)]


def _drop_oldest(folder: Path) -> None:
    size = 0
    for i, path in enumerate(_newest(folder)):
        with contextlib.suppress(OSError):
            size += path.stat().st_size
            if i and size > MOST:
                path.unlink()
