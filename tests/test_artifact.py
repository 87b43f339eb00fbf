"""Artifacts: written whole, read with suspicion, unknown keys kept, newer schemas and altered files refused."""

from __future__ import annotations

import contextlib
import gc
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeseg import artifact
from edgeseg.errors import ArtifactError
from edgeseg.manifest import SCHEMA, FileEntry, Manifest, ModelEntry, Weights
from edgeseg.spec import ClassSpec, Preprocess, TensorSpec

text = st.text(max_size=20)
size = st.integers(1, 200)
manifests = st.builds(
    Manifest,
    model=st.builds(
        ModelEntry,
        text,
        text,
        text,
        st.integers(0, 10**9),
        st.floats(0, 1e4),
        text,
        st.builds(Weights, text, text),
    ),
    target=text,
    precision=st.sampled_from(["fp32", "fp16", "int8"]),
    inputs=st.tuples(st.builds(TensorSpec, text, st.tuples(size, size, size, size), text)),
    outputs=st.tuples(st.builds(TensorSpec, text, st.tuples(size, size, size), text)),
    preprocess=st.builds(Preprocess, st.tuples(size, size), *[st.tuples(*[st.floats(-500, 500)] * 3)] * 2, text),
    classes=st.lists(st.builds(ClassSpec, text, st.tuples(*[st.integers(0, 255)] * 3)), max_size=4).map(tuple),
    ignore_index=st.none() | st.integers(0, 255),
    files=st.dictionaries(
        st.sampled_from(["model.xml", "golden.npz"]), st.builds(FileEntry, text, st.integers(0, 10**12))
    ),
    calibration=st.none() | st.dictionaries(text, st.integers()),
    toolchain=st.dictionaries(text, text),
    device=st.none() | st.dictionaries(text, text),
    onnx_sha256=text,
    created=text,
    extra=st.dictionaries(text.map(lambda k: f"x-{k}"), st.integers() | text),
)


@given(manifests)
def test_manifest_round_trip(manifest: Manifest) -> None:
    assert Manifest.from_json(manifest.to_json()) == manifest


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=400)
@given(manifests, st.data())
def test_a_manifest_of_wrong_types_is_refused_or_read(manifest: Manifest, data: st.DataObject) -> None:
    document = json.loads(manifest.to_json())
    key = data.draw(st.sampled_from(sorted(document)))
    document[key] = data.draw(json_values)
    with contextlib.suppress(ArtifactError):  # and nothing else
        assert isinstance(Manifest.from_json(json.dumps(document)), Manifest)


@given(st.text())
def test_any_text_is_refused_or_read(content: str) -> None:
    with pytest.raises(ArtifactError):
        Manifest.from_json(content)


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", "..", "", "a\\b", "manifest.json"])
def test_file_names_stay_in_the_folder(name: str) -> None:
    document = json.loads(_manifest(Path()).to_json())
    document["files"] = {name: {"sha256": "0", "bytes": 1}}
    with pytest.raises(ArtifactError, match="leaves the artifact's folder"):
        Manifest.from_json(json.dumps(document))


def _manifest(folder: Path, files: list[str] | None = None) -> Manifest:
    return Manifest(
        model=ModelEntry("enet", "paper", "semantic", 1, 0.1, "arXiv:1606.02147", Weights("random:0", "0" * 64)),
        target="openvino", precision="fp32",
        inputs=(TensorSpec("frame", (1, 2, 3, 3), "uint8"),), outputs=(TensorSpec("labels", (1, 2, 3), "uint8"),),
        preprocess=Preprocess((2, 3)), classes=(ClassSpec("road", (1, 2, 3)),), ignore_index=None,
        files=artifact.entries(folder, files or []), calibration=None, toolchain={}, device=None,
        onnx_sha256="0" * 64, created="2026-11-24T00:00:00+00:00",
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "artifact"
    with artifact.whole_folder(path) as temporary:
        (temporary / "model.bin").write_bytes(bytes(range(200)))
        tensors = {"frame": np.zeros((1, 2, 3, 3), np.uint8), "labels": np.zeros((1, 2, 3), np.uint8)}
        name = artifact.write_golden(temporary, tensors)
        manifest = _manifest(temporary, ["model.bin", name])
        (temporary / "manifest.json").write_text(manifest.to_json())
    return path


def test_reads_what_was_written(folder: Path) -> None:
    opened = artifact.load(folder)
    assert opened.manifest.files["model.bin"].bytes == 200
    assert opened.golden()["frame"].shape == (1, 2, 3, 3)
    assert sorted(p.name for p in folder.parent.iterdir()) == ["artifact"]


@settings(max_examples=60)
@given(position=st.integers(0, 199), value=st.integers(1, 255))
def test_any_altered_byte_is_refused(tmp_path_factory: pytest.TempPathFactory, position: int, value: int) -> None:
    path = tmp_path_factory.mktemp("a") / "artifact"
    with artifact.whole_folder(path) as temporary:
        content = bytearray(range(200))
        (temporary / "model.bin").write_bytes(content)
        (temporary / "manifest.json").write_text(_manifest(temporary, ["model.bin"]).to_json())
    content[position] ^= value
    (path / "model.bin").write_bytes(content)
    with pytest.raises(ArtifactError, match="does not have the hash"):
        artifact.load(path)


def test_truncated_missing_and_linked_files_are_refused(folder: Path) -> None:
    file = folder / "model.bin"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ArtifactError, match="has 100 bytes, its manifest says 200"):
        artifact.load(folder)
    file.unlink()
    with pytest.raises(ArtifactError, match=r"'model\.bin' is missing"):
        artifact.load(folder)
    outside = folder.parent / "outside"
    outside.write_bytes(bytes(range(200)))
    file.symlink_to(outside)
    with pytest.raises(ArtifactError, match="or a link"):
        artifact.load(folder)


def test_a_newer_schema_says_so(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace(f'"schema": {SCHEMA}', f'"schema": {SCHEMA + 1}'))
    with pytest.raises(ArtifactError, match=rf"has schema {SCHEMA + 1}, this edgeseg reads schema {SCHEMA}: update"):
        artifact.load(folder)


def test_unknown_keys_are_kept(folder: Path) -> None:
    document = json.loads((folder / "manifest.json").read_text()) | {"fleet": {"robot": 7}}
    kept = json.loads(Manifest.from_json(json.dumps(document)).to_json())
    assert kept == document


def test_a_golden_file_with_pickled_objects_is_refused(folder: Path) -> None:
    np.savez(folder / "golden.npz", frame=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ArtifactError, match="is object"):
        artifact.Artifact(folder, _manifest(folder)).golden()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_the_old_artifact(folder: Path, interruption: BaseException) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def write_half() -> None:
        with artifact.whole_folder(folder) as temporary:
            (temporary / "half").write_bytes(b"written")
            raise interruption

    with pytest.raises((KeyboardInterrupt, OSError)):
        write_half()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in folder.parent.iterdir()] == ["artifact"]


# An interruption at any point


def _interrupt(action: Callable[[], None], after: int) -> bool:
    """Whether ``action`` was interrupted: in ours between any two instructions, elsewhere between any two lines."""
    left = after

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename == artifact.__file__:
            frame.f_trace_opcodes = True
        left -= event in ("line", "opcode")  # a generator that is interrupted as it yields would never resume
        if left == 0:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except (KeyboardInterrupt, OSError):  # shutil.rmtree, interrupted, may close twice and say so
        return True
    finally:
        sys.settrace(before)
    return False


def _write_file(path: Path) -> None:
    artifact.write_whole(path, "new")


def _write_folder(path: Path) -> None:
    with artifact.whole_folder(path) as temporary:
        (temporary / "file").write_text("new")


def _content(path: Path) -> str | None:
    return (path / "file" if path.is_dir() else path).read_text() if path.exists() else None


@pytest.mark.parametrize("write", [_write_file, _write_folder])
@pytest.mark.parametrize("before", [None, "old"])
def test_ctrl_c_leaves_the_old_or_the_new_wherever_it_comes(
    write: Callable[[Path], None], before: str | None, tmp_path: Path
) -> None:
    seen = set()
    for after in range(1, 10**6):
        folder = tmp_path / str(after)
        folder.mkdir()
        path = folder / "kept"
        if before is not None:
            write(path)
            (path / "file" if path.is_dir() else path).write_text(before)
        was_interrupted = _interrupt(partial(write, path), after)
        gc.collect(0)  # the frames that the tracing holds: a generator that nobody will resume ends with them
        seen.add(_content(path))
        assert {entry.name for entry in folder.iterdir()} <= {"kept"}
        if not was_interrupted:
            break
    assert seen == {before, "new"}
    assert after > 50
