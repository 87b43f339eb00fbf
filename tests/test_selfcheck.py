"""An artifact in a process of its own."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeseg.artifact import MANIFEST, entries
from edgeseg.errors import CheckFailed
from edgeseg.export import BuildRequest, build
from edgeseg.manifest import Manifest
from edgeseg.runtimes import open_artifact
from edgeseg.selfcheck import answering
from tests.targets import RUNNABLE

SIZE = (64, 96)


@pytest.mark.parametrize("target", RUNNABLE)
def test_it_answers_frame_after_frame_as_here(target: str, tmp_path: Path) -> None:
    (path,) = build(BuildRequest("enet", size=SIZE, targets=(target,), output="both", out=tmp_path))
    frames = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), np.uint8)
    with open_artifact(path) as engine, answering(path) as answer:
        for frame in frames:
            got, want = answer(frame), engine.run({"frame": frame[None]})
            assert got.keys() == want.keys()
            assert all((got[name] == values).all() and got[name].dtype == values.dtype for name, values in want.items())


def test_one_that_does_not_open_or_ends_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = build(BuildRequest("enet", size=SIZE, targets=("onnxruntime",), out=tmp_path))
    frame = np.zeros((*SIZE, 3), np.uint8)
    (path / "model.onnx").write_bytes(b"no model")
    manifest = replace(load_manifest(path), files=entries(path, ["model.onnx", "golden.npz"]))
    (path / MANIFEST).write_text(manifest.to_json())
    with pytest.raises(CheckFailed, match=r"^.*ONNX Runtime does not take model\.onnx.*$"), answering(path) as answer:
        answer(frame)
    monkeypatch.setattr(sys, "executable", "false")
    with answering(path) as answer:
        for _ in range(2):
            with pytest.raises(CheckFailed, match="it ended with status 1"):
                answer(frame)


def load_manifest(path: Path) -> Manifest:
    return Manifest.from_json((path / MANIFEST).read_text())
