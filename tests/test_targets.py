"""The contract of every target: a file in ``export/`` with its twin in ``runtimes/`` joins by existing.

Small networks in every form that the quantizer and the passes write, on real engines, against exact arithmetic.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from edgeseg import models
from edgeseg.datasets import open_dataset
from edgeseg.errors import ArtifactError, InputError, MissingExtra
from edgeseg.export import _targets
from edgeseg.export._exact import Exact
from edgeseg.export.capture import capture
from edgeseg.export.passes import activation_before_concat, fold_batchnorm, frame_io, unpool
from edgeseg.export.quantize.calibrate import calibrate
from edgeseg.export.quantize.qdq import quantize
from edgeseg.manifest import Manifest, ModelEntry, Weights
from edgeseg.metrics import sqnr_db
from edgeseg.models._reference import Reference
from edgeseg.runtimes import targets
from edgeseg.runtimes._engine import Engine, _runtime
from edgeseg.spec import Preprocess, TensorSpec
from tests.targets import CELL_PAIRS, CELLS, RUNNABLE

SIZE = (96, 128)
CLASSES = 11
NETWORKS = [("enet", v.name) for v in models.spec("enet").variants]  # all of them: test_networks.py
LEAST_DB = {"fp32": 60, "fp16": 40, "int8": 15}
LEAST_LABELS = {"fp32": 0.999, "fp16": 0.99, "int8": 0.95}  # of small frames, more border than the weights know
REPRODUCIBLE = [n for n in _targets.names() if n != "tensorrt"]  # its builder orders what it writes by chance
UNTRAINED_DB = {"fp32": 60, "fp16": 35}  # nothing in untrained weights damps a rounding


def test_every_target_has_its_twin() -> None:
    assert _targets.names() == targets()


@pytest.fixture(scope="module", params=NETWORKS, ids="-".join)
def graph(request: pytest.FixtureRequest) -> ir.Model:
    """A network from frame to labels and logits: with the packaged weights, else with sane statistics."""
    name, variant = request.param
    try:
        model = compiled_form(models.load(name, variant=variant).module, "both")
        model.metadata_props["weights"] = "packaged"
    except InputError:
        torch.manual_seed(1)  # whatever tests ran before
        model = compiled_form(with_statistics(models.file(name).build(CLASSES, variant)), "both")
    return model


def with_statistics(network: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.2, 1.2)
    for _ in range(8):  # batch statistics, so that activations have the range of a trained network's
        network.train()(torch.rand(4, 3, *SIZE))
    return network


def compiled_form(network: nn.Module, ends: str) -> ir.Model:
    model = capture(network.eval(), SIZE)
    for rewrite in (fold_batchnorm, activation_before_concat, unpool):
        rewrite.apply(model)
    frame_io.apply(model, Preprocess(SIZE), SIZE, ends)
    return model


def frames(count: int) -> list[NDArray[np.uint8]]:
    dataset = open_dataset(f"streets:{count}@{SIZE[0]}x{SIZE[1]}:val")
    return [dataset[i].frame for i in range(count)]


def manifest(target: str, precision: str) -> Manifest:
    return Manifest(
        model=ModelEntry("enet", "paper", "semantic", 1, 0.1, "", Weights("random:1", "")),
        target=target, precision=precision,
        inputs=(TensorSpec("frame", (1, *SIZE, 3), "uint8"),),
        outputs=(TensorSpec("labels", (1, *SIZE), "uint8"), TensorSpec("logits", (1, CLASSES, *SIZE), "float32")),
        preprocess=Preprocess(SIZE), classes=(), ignore_index=None, files={}, calibration=None, toolchain={},
        device=None, onnx_sha256="", created="",
    )  # fmt: skip


@pytest.fixture(scope="module")
def quantized(graph: ir.Model) -> dict[int, ir.Model]:
    calibration = calibrate(graph, frames(6))
    return {levels: quantize(graph, calibration, levels) for levels in (64, 127)}


@pytest.fixture(params=CELL_PAIRS, ids="-".join)
def cell(request: pytest.FixtureRequest, graph: ir.Model, quantized: dict[int, ir.Model], tmp_path: Path) -> Any:
    """(target, precision, engine, the graph it was compiled from)."""
    name, precision = request.param
    target = _targets.load(name, precision)
    model = quantized[target.weight_levels()] if precision == "int8" else graph
    files = target.compile(model, precision, tmp_path)
    assert files and all((tmp_path / f).is_file() for f in files)
    assert all(isinstance(v, str) for v in target.toolchain().values())
    described = manifest(name, precision)
    with Engine(described, _runtime(tmp_path, described, 2)) as engine:
        yield name, precision, engine, model


def test_gives_what_the_graph_gives(cell: Any) -> None:
    name, precision, engine, model = cell
    if precision == "int8" and "packaged" not in str(model.metadata_props.get("weights")):
        pytest.skip("untrained weights say nothing of int8: they amplify every rounding")
    exact = Exact(model)
    noise, same = [], []
    for frame in frames(8)[6:]:
        want, got = exact.run(frame[None]), engine.run({"frame": frame[None]})
        assert {k: (v.shape, v.dtype) for k, v in got.items()} == {k: (v.shape, v.dtype) for k, v in want.items()}
        assert (got["labels"][0] == engine.segment(frame)).all()
        assert (got["labels"] == got["logits"].argmax(1)).all()  # ties too: the first of equal classes
        noise.append(sqnr_db(want["logits"], got["logits"]))
        same.append((want["labels"] == got["labels"]).mean())
    least = (LEAST_DB if model.metadata_props.get("weights") else UNTRAINED_DB)[precision]
    assert np.mean(same) >= LEAST_LABELS[precision] and np.mean(noise) >= least, (
        name,
        noise,
        same,
    )


class Loud(nn.Module):
    """One convolution whose weights and inputs fill int8: what overflows a 16-bit accumulator shows here."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 5, padding=2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(0)).sign() * 0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(x)
        return out


@pytest.mark.parametrize("name", RUNNABLE)
def test_int8_kernels_do_not_saturate(name: str, tmp_path: Path) -> None:
    model = compiled_form(Loud(), "logits")
    target = _targets.load(name, "int8")
    noise = np.random.default_rng(0).integers(0, 2, (2, *SIZE, 3), np.uint8) * np.uint8(255)
    model = quantize(model, calibrate(model, noise, "minmax"), target.weight_levels())
    target.compile(model, "int8", tmp_path)
    described = replace(manifest(name, "int8"), outputs=(TensorSpec("logits", (1, 6, *SIZE), "float32"),))
    with Engine(described, _runtime(tmp_path, described, 1)) as engine:
        want, got = Exact(model).run(noise[:1])["logits"], engine.run({"frame": noise[:1]})["logits"]
    assert sqnr_db(want, got) > 40


class Pooled(nn.Module):
    """Nothing but pooling and unpooling, so that every engine must give the same places to the bit."""

    def __init__(self, overlap: bool) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(*((3, 2, 1) if overlap else (2, 2, 0)), return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values, indices = self.pool(x)
        out: torch.Tensor = self.unpool(values, indices)
        return out


@pytest.mark.parametrize(("name", "precision"), CELLS)
@pytest.mark.parametrize("overlap", [False, True])
def test_unpooling_puts_ties_where_torch_does(name: str, precision: str, overlap: bool, tmp_path: Path) -> None:
    few = [f // 64 * 64 for f in frames(3)]  # four grey levels: most windows tie
    model = compiled_form(Pooled(overlap), "logits")
    target = _targets.load(name, precision)
    if precision == "int8":
        model = quantize(model, calibrate(model, few, "minmax"), target.weight_levels())
    target.compile(model, precision, tmp_path)
    logits = TensorSpec("logits", (1, 3, *SIZE), "float32")
    described = replace(manifest(name, precision), outputs=(logits,))
    with Engine(described, _runtime(tmp_path, described, 1)) as engine:
        for frame in few:
            got = engine.run({"frame": frame[None]})["logits"]
            want = Reference(Pooled(overlap), Preprocess(SIZE)).run(frame)[0]
            assert ((got[0] != 0) == (want != 0)).all()
            assert np.abs(got[0] - want).max() <= {"fp32": 1e-6, "fp16": 1e-3, "int8": 0.5 / 127}[precision]


def test_answers_belong_to_the_caller_and_to_the_frame(cell: Any) -> None:
    """Earlier answers stay as they were, and threads get their own frame's."""
    _, _, engine, _ = cell
    first, second = frames(2)
    alone = [engine.segment(f).copy() for f in (first, second)]
    kept = engine.segment(first)
    engine.segment(second)
    assert (kept == alone[0]).all()
    wrong: list[int] = []

    def work(which: int) -> None:
        for _ in range(6):
            if not (engine.segment((first, second)[which]) == alone[which]).all():
                wrong.append(which)

    workers = [threading.Thread(target=work, args=(i % 2,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.parametrize("name", RUNNABLE)
def test_wrong_feeds_name_both_forms(name: str, graph: ir.Model, tmp_path: Path) -> None:
    _targets.load(name, "fp32").compile(graph, "fp32", tmp_path)
    described = manifest(name, "fp32")
    with Engine(described, _runtime(tmp_path, described, 1)) as engine:
        good = frames(1)[0]
        bad: Any
        for bad in (good[:-1], good.astype(np.float32), good[None], good[..., 0]):
            with pytest.raises(InputError, match=r"must be uint8 \[96, 128, 3\], got"):
                engine.segment(bad)
        with pytest.raises(InputError, match=r"must be uint8 \[1, 96, 128, 3\], got uint8 \[96, 128, 3\]"):
            engine.run({"frame": good})
        with pytest.raises(InputError, match=r"takes \['frame'\], not \['image'\]"):
            engine.run({"image": good[None]})
        assert engine.segment(good[:, ::-1]).shape == SIZE  # strides are no matter


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_damaged_file_is_an_artifact_error(name: str, graph: ir.Model, tmp_path: Path) -> None:
    files = _targets.load(name, "fp32").compile(graph, "fp32", tmp_path)
    (tmp_path / files[0]).write_bytes((tmp_path / files[0]).read_bytes()[:1000])
    with pytest.raises(ArtifactError) as caught:
        _runtime(tmp_path, manifest(name, "fp32"), None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", REPRODUCIBLE)
def test_the_same_graph_gives_the_same_bytes(name: str, quantized: dict[int, ir.Model], tmp_path: Path) -> None:
    target = _targets.load(name, "int8")
    contents = []
    for each in ("a", "b"):
        (tmp_path / each).mkdir()
        files = target.compile(quantized[target.weight_levels()], "int8", tmp_path / each)
        contents.append([(tmp_path / each / f).read_bytes() for f in files])
    assert contents[0] == contents[1]


def test_unknown_targets_and_precisions_list_the_choices() -> None:
    with pytest.raises(InputError, match="unknown target 'tpu': use one of"):
        _targets.load("tpu", "fp32")
    with pytest.raises(InputError, match="has no precision 'int4': use one of"):
        _targets.load(_targets.names()[0], "int4")


@pytest.mark.parametrize("name", _targets.names())
def test_a_missing_package_names_the_command(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import builtins
    import sys

    vendors = ("openvino", "ai_edge_litert", "tflite_runtime", "onnxruntime", "cuda")
    real = builtins.__import__

    def absent(module: str, *rest: Any, **more: Any) -> Any:
        if module.split(".")[0] in vendors:
            raise ImportError(module)
        return real(module, *rest, **more)

    monkeypatch.delitem(sys.modules, f"edgeseg.runtimes.{name}", raising=False)
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtra, match=rf"pip install 'edgeseg\[{name}\]'"):
        _runtime(tmp_path, manifest(name, "fp32"), None)
