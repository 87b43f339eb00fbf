"""The artifact: one folder with the vendor's files, a golden frame with its outputs, and a manifest.

Reading runs no code from the folder: JSON, ``np.load`` without pickle, hashes first. Writing goes to a
temporary folder beside the target and is renamed in whole.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg import ticket
from edgeseg.errors import ArtifactError
from edgeseg.manifest import FileEntry, Manifest
from edgeseg.spec import TensorSpec

MANIFEST, GOLDEN = "manifest.json", "golden.npz"
MOST_MANIFEST = 1 << 24  # bytes


@dataclass(frozen=True)
class Artifact:
    """A verified artifact folder."""

    path: Path
    manifest: Manifest

    def golden(self) -> dict[str, NDArray[Any]]:
        """The golden tensors by name: the inputs as the engine takes them, and the outputs it must give.

        Raises:
            ArtifactError: unreadable, or without a tensor of the shape and dtype that the manifest states.
        """
        try:
            with zipfile.ZipFile(_regular(self.path, GOLDEN)) as archive:
                return {spec.name: _tensor(archive, spec) for spec in (*self.manifest.inputs, *self.manifest.outputs)}
        except ArtifactError:
            raise
        except Exception as error:  # zipfile's, zlib's and NumPy's have no base class in common
            raise ArtifactError(f"{self.path / GOLDEN} cannot be read ({error}): build the artifact again") from None


def load(path: str | Path) -> Artifact:
    """Open the artifact at ``path``, verifying every file's size and hash.

    Raises:
        ArtifactError: no artifact there, a schema this version does not read, a missing, altered or linked file.
    """
    folder = Path(path)
    try:
        with _regular(folder, MANIFEST).open("rb") as stream:
            content = stream.read(MOST_MANIFEST + 1)
        text = content.decode("utf-8")
    except ArtifactError:
        raise
    except (OSError, ValueError):
        raise ArtifactError(f"{folder} is not an artifact: it has no readable {MANIFEST}") from None
    if len(content) > MOST_MANIFEST:
        raise ArtifactError(f"{folder}: {MANIFEST} has more than {MOST_MANIFEST} bytes: it is none")
    manifest = Manifest.from_json(text)
    for name, entry in manifest.files.items():
        _verify(folder, name, entry)
    listed = {*manifest.files, *([ticket.PLAN] if ticket.is_ticket(manifest) else [])}  # trtexec's plan: docs/jetson.md
    for name in sorted(os.listdir(folder)):  # what a vendor's parser, or the self-test, would open by its name
        if (name.startswith("model.") or name == GOLDEN) and name not in listed:
            raise ArtifactError(f"{folder}: {name!a} is not in {MANIFEST}: build the artifact again or copy it whole")
    return Artifact(folder, manifest)


def _regular(folder: Path, name: str) -> Path:
    """The path of the file ``name`` in ``folder``. Raises ArtifactError where it is missing, a link or no plain file:
    it would lead out of the folder, or be a pipe that never ends."""
    file = folder / name
    try:
        plain = stat.S_ISREG(file.lstat().st_mode)
    except (OSError, ValueError):
        plain = False
    if not plain:
        what = "is not an artifact:" if name == MANIFEST else "is damaged:"
        raise ArtifactError(f"{folder} {what} {name!a} is missing or a link; build the artifact again or copy it whole")
    return file


def _tensor(archive: zipfile.ZipFile, spec: TensorSpec) -> NDArray[Any]:
    """The array ``spec`` of an ``npz``, whose header is read before memory is taken for it."""
    try:
        with archive.open(f"{spec.name}.npy") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(stream)
            if shape != spec.shape or dtype != np.dtype(spec.dtype) or dtype.hasobject:
                raise ArtifactError(
                    f"{GOLDEN}: '{spec.name}' is {dtype} {list(shape)}, {MANIFEST} says {spec.dtype}"
                    f" {list(spec.shape)}: these files do not belong together; build the artifact again"
                )
            size = dtype.itemsize * math.prod(shape)
            values = np.frombuffer(bytearray(stream.read(size)), dtype)  # writable
    except KeyError:
        raise ArtifactError(f"{GOLDEN} lacks '{spec.name}', which {MANIFEST} names: build the artifact again") from None
    return values.reshape(shape, order="F" if fortran else "C")


def _verify(folder: Path, name: str, entry: FileEntry) -> None:
    file = _regular(folder, name)
    if (size := file.stat().st_size) != entry.bytes:
        raise ArtifactError(f"{folder}: {name} has {size} bytes, its manifest says {entry.bytes}: copy it again")
    if sha256(file) != entry.sha256:
        raise ArtifactError(f"{folder}: {name} does not have the hash its manifest states: it was altered or damaged")


def sha256(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(stream)


def _digest(stream: Any) -> str:  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    for block in iter(lambda: stream.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()


def entries(folder: Path, names: list[str]) -> dict[str, FileEntry]:
    """Manifest entries of the files ``names`` in ``folder``."""
    return {name: FileEntry(sha256(folder / name), (folder / name).stat().st_size) for name in names}


def write_golden(folder: Path, tensors: Mapping[str, NDArray[Any]]) -> str:
    np.savez_compressed(folder / GOLDEN, allow_pickle=False, **tensors)
    return GOLDEN


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``path`` when the block ends well, and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = _beside(path), path.with_name(f".{path.name}.old")
    try:
        temporary.mkdir(0o700)
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        temporary.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        if old.exists() and not path.exists():  # ended between the two renames
            old.rename(path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name for a file that becomes ``path`` when the block ends well, and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """``content``, text in UTF-8, as the file ``path``: all of it or, where that fails, what was there before."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())


def _beside(path: Path) -> Path:
    """A new name, known before anything has it: ``tempfile`` makes the file first, and Ctrl-C may come between."""
    return path.with_name(f".{path.name}.{os.urandom(4).hex()}")
