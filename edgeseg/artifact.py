"""The artifact: one folder with the vendor's files, a golden frame with its outputs, and a manifest.

Reading runs no code from the folder: JSON, ``np.load`` without pickle, hashes first. Writing goes to a
temporary folder beside the target and is renamed in whole.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.errors import ArtifactError
from edgeseg.manifest import FileEntry, Manifest

MANIFEST, GOLDEN = "manifest.json", "golden.npz"


@dataclass(frozen=True)
class Artifact:
    """A verified artifact folder."""

    path: Path
    manifest: Manifest

    def golden(self) -> dict[str, NDArray[Any]]:
        """The golden tensors by name: ``frame`` as the engine takes it, and its expected outputs."""
        try:
            with np.load(self.path / GOLDEN, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, zipfile.BadZipFile, KeyError) as error:
            raise ArtifactError(f"{self.path / GOLDEN} cannot be read ({error}): build the artifact again") from None


def load(path: str | Path) -> Artifact:
    """Open the artifact at ``path``, verifying every file's size and hash.

    Raises:
        ArtifactError: no artifact there, a schema this version does not read, a missing or altered file.
    """
    folder = Path(path)
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ArtifactError(f"{folder} is not an artifact: it has no readable {MANIFEST}") from None
    manifest = Manifest.from_json(text)
    for name, entry in manifest.files.items():
        _verify(folder, name, entry)
    return Artifact(folder, manifest)


def _verify(folder: Path, name: str, entry: FileEntry) -> None:
    file = folder / name
    if file.is_symlink() or not file.is_file():
        raise ArtifactError(f"{folder}: {name} is missing or a link: build the artifact again or copy it whole")
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
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        old = path.with_name(f".{path.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
