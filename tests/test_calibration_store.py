"""A kept calibration is used where nothing changed, never where anything did, and what changed is said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from edgeseg.artifact import load
from edgeseg.export import BuildRequest, build
from edgeseg.export._build import _Build
from edgeseg.export.capture import capture
from edgeseg.export.passes import frame_io
from edgeseg.export.quantize import facts, observe, store
from edgeseg.export.quantize._session import Observed
from edgeseg.export.quantize.calibrate import calibration
from edgeseg.export.quantize.plan import Plan
from edgeseg.export.quantize.store import Damaged, Store
from edgeseg.export.sensitivity.weigh import weigh
from edgeseg.manifest import Manifest
from edgeseg.spec import Preprocess

SIZE = (16, 24)
SIZES: store.Facts = {"frame size": "16x24", "network size": "16x24"}
KEPT, AGAIN = "calibration: the kept one, nothing changed since", "calibration taken again: "


class Told:
    """A Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Callable[[], None]]:
        yield lambda: None

    def note(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def graph() -> ir.Model:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 3, 1, 1), nn.ReLU(),
                        nn.ConvTranspose2d(6, 4, 4, 4))  # fmt: skip
    model = capture(net.eval(), SIZE)
    frame_io.apply(model, Preprocess(SIZE), SIZE, "both")
    return model


def frames(count: int = 6) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(count)]


def seen(model: ir.Model, images: list[NDArray[np.uint8]], kept: Store, sizes: store.Facts = SIZES) -> tuple[
    observe.Observation, list[str]
]:  # fmt: skip
    told = Told()
    return observe.observe(model, images[:2], images, sizes, kept, told, weigh), told.lines


def ranges(found: observe.Observation, method: str = "mse") -> dict[str, float]:
    return calibration(found.histograms, method, found.facts).ranges


def test_nothing_changed_nothing_is_computed(graph: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Store(tmp_path, "net")
    first, said = seen(graph, frames(), kept)
    assert said == []
    monkeypatch.setattr(observe, "Observed", None)  # what runs the graph
    monkeypatch.setattr(observe, "channel_ranges", None)
    again, said = seen(graph, frames(), kept)
    assert said == [KEPT]
    for method in (
        "weighted",
        "mse",
        "minmax",
        "percentile",
        "entropy",
    ):  # histograms are kept: any calibrator is at hand
        assert ranges(again, method) == ranges(first, method)
    assert calibration(again.histograms, "mse", again.facts) == calibration(first.histograms, "mse", first.facts)


def reweighted(graph: ir.Model) -> ir.Model:
    changed = graph.clone()
    name, value = next((k, v) for k, v in changed.graph.initializers.items() if k.endswith("weight"))
    value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.001), name=name)  # type: ignore[union-attr]
    return changed


def restructured(graph: ir.Model) -> ir.Model:
    changed = graph.clone()
    next(n for n in changed.graph if n.op_type == "Relu").op_type = "Sigmoid"
    return changed


def test_whatever_changes_it_is_taken_again_and_what_changed_is_said(graph: ir.Model, tmp_path: Path) -> None:
    images = frames()
    other = [*images[:3], images[3] + np.uint8(1), *images[4:]]
    larger: store.Facts = {**SIZES, "frame size": "32x48"}
    for model, given, sizes, want in (
        (graph, other, SIZES, "1 of 6 frames changed"),
        (graph, images[:5], SIZES, "6 → 5 frames"),
        (graph, [*images[:2], *images[:1:-1]], SIZES, "the frames' order changed"),
        (reweighted(graph), images, SIZES, "the weights changed"),
        (restructured(graph), images, SIZES, "the graph changed"),
        (graph, images, larger, "frame size 16x24 → 32x48"),
    ):
        kept = Store(tmp_path / want, "net")
        seen(graph, images, kept)
        assert seen(model, given, kept, sizes)[1] == [AGAIN + want]
        assert seen(model, given, kept, sizes)[1] == [KEPT]
        assert seen(graph, images, kept)[1] == [KEPT]
        assert seen(graph, images, Store(tmp_path / want, "another net"))[1] == []


def test_another_version_takes_it_again(graph: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Store(tmp_path, "net")
    seen(graph, frames(), kept)
    monkeypatch.setattr(facts, "version", {"onnxruntime": "9.9", "numpy": "8.8", "torch": "7.7"}.__getitem__)
    (line,) = seen(graph, frames(), kept)[1]
    assert line.startswith(f"{AGAIN}onnxruntime ")
    assert line.endswith(" → onnxruntime 9.9, numpy 8.8, torch 7.7")
    monkeypatch.setattr(facts, "CODE", facts.CODE[1:])
    assert seen(graph, frames(), kept)[1] == [f"{AGAIN}edgeseg's calibration is another version's"]


def test_a_damaged_entry_is_taken_again(graph: ir.Model, tmp_path: Path) -> None:
    kept = Store(tmp_path, "net")
    first, _ = seen(graph, frames(), kept)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 1
    for content in (b"", whole[:-1], whole[:100], bytes(flipped), b"\xff" * 4096):
        path.write_bytes(content)
        again, said = seen(graph, frames(), kept)
        assert said == ["calibration taken again: the kept one was damaged"]
        assert ranges(again) == ranges(first)
        assert seen(graph, frames(), kept)[1] == [KEPT]


def test_an_entry_under_another_name_is_not_believed(graph: ir.Model, tmp_path: Path) -> None:
    kept = Store(tmp_path, "net")
    one, _ = seen(graph, frames(), kept)
    (path,) = tmp_path.iterdir()
    two = dict(one.facts) | {"weights": "others"}
    path.rename(kept._path(two))
    with pytest.raises(Damaged):
        kept.recall(two)


def test_a_folder_that_takes_nothing_stops_no_build(graph: ir.Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found, said = seen(graph, frames(), Store(tmp_path / "file" / "folder", "net"))
    assert ranges(found)
    assert said == ["calibration not kept for the next build: Not a directory"]


def test_the_oldest_entries_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST", 3000)
    kept = Store(tmp_path, "net")
    for i in range(5):
        kept.keep({"n": str(i)}, {"a": np.zeros(100, np.int64)})
        os.utime(kept._path({"n": str(i)}), (i, i))
    left = [i for i in range(5) if kept.recall({"n": str(i)}) is not None]
    assert left == [2, 3, 4]


def test_builds_at_the_same_time_harm_nothing(tmp_path: Path) -> None:
    script = """
import sys, numpy as np
from pathlib import Path
from edgeseg.export.quantize.store import Store
from edgeseg.export.sensitivity.weigh import weigh
kept, arrays = Store(Path(sys.argv[1]), "net"), {"a": np.arange(20_000)}
for i in range(60):
    found = kept.recall({"n": str(i % 3)})
    assert found is None or (found["a"] == arrays["a"]).all()
    kept.keep({"n": str(i % 3)}, arrays)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: subprocess.run(command, capture_output=True, text=True, check=False), range(3)))
    assert [d.stderr for d in done] == [""] * 3
    assert len(list(tmp_path.iterdir())) == 3  # and nothing half-written


@pytest.mark.parametrize("most", [1, 3000, 1 << 30])
def test_parts_of_any_size_show_the_same_tensors(graph: ir.Model, most: int) -> None:
    plan = Plan(graph)
    names = [str(v.name) for v in plan.points + plan.inner]
    whole = dict(Observed(graph, names, 1 << 40).run(frames()[0]))
    parts = Observed(graph, names, most)
    assert sorted(whole) == sorted(names)
    got = dict(parts.run(frames()[0]))
    assert list(got) == list(whole)
    for name in names:
        np.testing.assert_allclose(got[name], whole[name], rtol=1e-4, atol=1e-4)
    assert len(parts._parts) == (1 if most > 1 << 20 else len(names) if most == 1 else len(parts._parts))


def test_a_build_uses_what_the_last_one_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESEG_CACHE", str(tmp_path / "cache"))

    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (64, 96, 3), np.uint8)).save(images / f"{i}.png")
    request = BuildRequest(
        "enet", size=(64, 96), targets=("onnxruntime",), precisions=("int8",), data=f"folder:{images}", out=tmp_path
    )  # fmt: skip

    def built(request: BuildRequest) -> tuple[Manifest, list[str]]:
        told = Told()
        return load(build(request, told)[0]).manifest, told.lines

    first, said = built(request)
    assert said == []
    other, said = built(replace(request, calibrator="entropy"))
    assert said == [KEPT]
    assert first.calibration is not None
    assert other.calibration is not None
    assert (first.calibration["method"], other.calibration["method"]) == ("weighted", "entropy")
    assert first.onnx_sha256 != other.onnx_sha256
    Image.fromarray(rng.integers(0, 256, (64, 96, 3), np.uint8)).save(images / "2.png")
    again, said = built(request)
    assert said == [f"{AGAIN}1 of 4 frames changed"]
    assert again.calibration is not None
    assert again.calibration["digest"] != first.calibration["digest"]
    assert _Build(replace(request, cache=False), Told())._store() is None
