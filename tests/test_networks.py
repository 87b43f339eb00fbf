"""Every network through every target in every precision, at small frames: the matrix that CI holds."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray

from edgeseg.datasets import open_dataset
from edgeseg.export import _targets, tensorrt_graph
from edgeseg.export._exact import Exact, last_floats
from edgeseg.export.capture import capture
from edgeseg.export.passes import activation_before_concat, fold_batchnorm, frame_io, simplify, unpool
from edgeseg.export.quantize.calibrate import calibrate
from edgeseg.export.quantize.equalize import channel_ranges, equalize
from edgeseg.export.quantize.plan import Plan
from edgeseg.export.quantize.qdq import quantize
from edgeseg.export.sensitivity.graph import TorchGraph
from edgeseg.export.sensitivity.layers import sensitivity
from edgeseg.manifest import Manifest, ModelEntry, Weights
from edgeseg.metrics import sqnr_db
from edgeseg.models._reference import Reference
from edgeseg.runtimes._engine import Engine, _runtime
from edgeseg.spec import TensorSpec
from tests import tensorrt_contract
from tests.networks import Case, cases
from tests.targets import RUNNABLE

CLASSES = 11
LEAST_DB = {"fp32": 60, "fp16": 40}
POOLS_BY_INDEX = {"segnet": 25}  # untrained: rounding changes which of two nearly equal values is unpooled
LEAST_INT8_DB = 10  # of the engine against its own quantized graph: a wrong kernel gives less than 6


class Compiled:
    """A network, its graph, and what it says of a frame."""

    def __init__(self, case: Case) -> None:
        self.case = case
        network = case.network(CLASSES)
        self.graph = capture(network, case.size)
        for rewrite in (simplify, fold_batchnorm, activation_before_concat, unpool):
            rewrite.apply(self.graph)
        frame_io.apply(self.graph, case.preprocess, case.size, "both")
        self.frames = frames(case.size)
        self.logits, self.labels = Reference(network, case.preprocess).run(self.frames[0])
        self.balanced = equalize(self.graph, channel_ranges(self.graph, self.frames))
        self._calibration = calibrate(self.balanced, self.frames)
        self._quantized: dict[int, ir.Model] = {}

    def model(self, precision: str, levels: int) -> ir.Model:
        if precision != "int8":
            return self.graph
        if levels not in self._quantized:
            self._quantized[levels] = quantize(self.balanced, self._calibration, levels)
        return self._quantized[levels]

    def kept(self, keep: Collection[str]) -> ir.Model:
        return quantize(self.balanced, self._calibration, 127, keep)

    def manifest(self, target: str, precision: str) -> Manifest:
        labels, logits = (1, *self.case.size), (1, *self.logits.shape)
        return Manifest(
            model=ModelEntry(self.case.name, self.case.variant.name, "semantic", 1, 0.1, "", Weights("random:1", "")),
            target=target, precision=precision, inputs=(TensorSpec("frame", (1, *self.case.size, 3), "uint8"),),
            outputs=(TensorSpec("labels", labels, "uint8"), TensorSpec("logits", logits, "float32")),
            preprocess=self.case.preprocess, classes=(), ignore_index=None, files={}, calibration=None, toolchain={},
            device=None, onnx_sha256="", created="",
        )  # fmt: skip


def frames(size: tuple[int, int], count: int = 4) -> list[NDArray[np.uint8]]:
    data = open_dataset(f"streets:{count}@{size[0]}x{size[1]}:val")
    return [data[i].frame for i in range(count)]


@pytest.fixture(scope="module", params=cases(), ids=str)
def compiled(request: pytest.FixtureRequest) -> Compiled:
    return Compiled(request.param)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", RUNNABLE)
def test_every_target_sees_what_the_network_sees(compiled: Compiled, name: str, precision: str, tmp_path: Path) -> None:
    target: Any = _targets.load(name, precision)
    model = compiled.model(precision, target.weight_levels())
    target.compile(model, precision, tmp_path)
    manifest, frame = compiled.manifest(name, precision), compiled.frames[0]
    with Engine(manifest, _runtime(tmp_path, manifest, 2)) as engine:
        got = engine.run({"frame": frame[None]})
    assert got["labels"].shape == (1, *compiled.case.size)
    assert (got["labels"] == got["logits"].argmax(1)).all()
    if precision == "int8":
        assert sqnr_db(Exact(model).run(frame[None])["logits"], got["logits"]) >= LEAST_INT8_DB
    else:
        least = min(LEAST_DB[precision], POOLS_BY_INDEX.get(compiled.case.name, 60))
        assert sqnr_db(compiled.logits, got["logits"][0]) >= least


def test_balanced_channels_change_nothing(compiled: Compiled) -> None:
    frame = compiled.frames[0][None]
    a, b = (Exact(m).run(frame)["logits"] for m in (compiled.graph, compiled.balanced))
    assert sqnr_db(a, b) >= min(90, POOLS_BY_INDEX.get(compiled.case.name, 90))


def test_what_its_layers_cost_is_known(compiled: Compiled) -> None:
    """In PyTorch the graph says the same, and every layer's noise is told."""
    frame, names = compiled.frames[0], last_floats(compiled.balanced)
    with torch.no_grad():
        (same,) = TorchGraph(compiled.balanced, compiled.balanced, names).run(torch.from_numpy(frame[None]))
    exact = Exact(compiled.balanced, names).run(frame[None])[names[0]]
    assert sqnr_db(exact, same.numpy()) >= min(80, POOLS_BY_INDEX.get(compiled.case.name, 80))
    layers = sensitivity(compiled.balanced, compiled.kept, [frame])
    assert all(0 <= layer.noise < np.inf for layer in layers)
    assert np.mean([layer.noise > 0 for layer in layers]) > 0.9  # but of the pooled frame


@pytest.mark.parametrize("generation", tensorrt_contract.GENERATIONS)
def test_every_generation_of_tensorrt_would_take_it(compiled: Compiled, generation: str) -> None:
    parted = compiled.kept(list(Plan(compiled.balanced).layers())[1::3])
    tensorrt_contract.passes_the_preflight(parted, "int8", generation)
    for precision in ("fp32", "int8"):
        model = compiled.model(precision, 127)
        form = tensorrt_contract.passes_the_preflight(model, precision, generation)
        if generation == "8.5" and precision == "fp32":  # lowered, it says the same
            exact, frame = Exact(model).run(compiled.frames[0][None]), compiled.frames[0][None]
            assert {k: (v == exact[k]).all() for k, v in Exact(form).run(frame).items()} == dict.fromkeys(exact, True)


@tensorrt_contract.needs_rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_tensorrt_builds_it(compiled: Compiled, precision: str, tmp_path: Path) -> None:
    tensorrt_contract.builds(compiled.model(precision, 127), precision, tmp_path)


@tensorrt_contract.needs_rtx
def test_tensorrt_builds_it_in_parts_of_int8_and_float(compiled: Compiled, tmp_path: Path) -> None:
    parted = compiled.kept(list(Plan(compiled.balanced).layers())[1::3])
    tensorrt_contract.builds(parted, "int8", tmp_path)


def test_in_half_precision_it_says_the_same(compiled: Compiled) -> None:
    """The fp16 graph of TensorRT 11 and of TensorRT for RTX, in which what would overflow stays in float32."""
    form = tensorrt_graph.prepare(compiled.model("fp16", 127), "fp16", "rtx")
    got = Exact(form).run(compiled.frames[0][None])["logits"]
    assert sqnr_db(compiled.logits[None], got) >= min(LEAST_DB["fp16"], POOLS_BY_INDEX.get(compiled.case.name, 60))
