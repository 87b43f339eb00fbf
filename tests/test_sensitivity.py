"""The Q/DQ graph's derivatives, and what they tell of each layer."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from edgeseg.artifact import load
from edgeseg.export import BuildRequest, _targets, build
from edgeseg.export._exact import Exact, last_floats
from edgeseg.export.passes import unpool
from edgeseg.export.quantize.calibrate import calibrate
from edgeseg.export.quantize.plan import Plan
from edgeseg.export.quantize.qdq import quantize
from edgeseg.export.sensitivity import graph as torch_graph
from edgeseg.export.sensitivity.graph import TorchGraph
from edgeseg.export.sensitivity.layers import deciding, noise, sensitivity
from edgeseg.export.sensitivity.operators import OPERATORS, NoCounterpart
from edgeseg.metrics import sqnr_db
from edgeseg.runtimes._engine import Engine, _runtime
from tests.targets import RUNNABLE
from tests.test_calibration_store import Told
from tests.test_quantize import captured, frames, manifest_of


class Pooled(nn.Module):
    """Pools to indices and unpools by them, with a skipped sum and a join: what ENet's halves are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.inner, self.more = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat((self.a(x).relu(), self.b(x).relu()), 1)
        pooled, indices = nn.functional.max_pool2d(x, 2, 2, return_indices=True)
        pooled = pooled + self.more(self.inner(pooled).relu())
        out: Tensor = self.last(nn.functional.max_unpool2d(pooled, indices, [2, 2], [2, 2]))
        return out


@pytest.fixture(scope="module")
def graph() -> ir.Model:
    return captured(Pooled, unpool)


def gradients(model: ir.Model, exact: ir.Model) -> dict[str, float]:
    found = TorchGraph(model, exact, last_floats(model))
    found.run(torch.from_numpy(frames()[0][None]))[0].square().mean().backward()  # type: ignore[no-untyped-call]
    return found.noise


def test_in_parts_it_tells_the_same(graph: ir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    model = quantize(graph, calibrate(graph, frames()))
    whole = gradients(model, graph)
    assert len(whole) == 1 + 5 + 5 + 2  # frame, weights, what convolutions and the sum write, what they read moved
    monkeypatch.setattr(torch_graph, "MOST", 4 * 8 * 16 * 24)
    assert len(TorchGraph(model, graph, last_floats(model))._parts) > 5
    assert gradients(model, graph) == pytest.approx(whole, rel=1e-4)


def test_rounding_passes_on_what_it_does_not_clip() -> None:
    x = torch.tensor([-70.0, -0.6, 0.2, 0.3, 63.6], requires_grad=True)
    y = torch_graph._Round.apply(x, torch.tensor(0.5))  # type: ignore[no-untyped-call]
    y.sum().backward()
    assert y.tolist() == [-64.0, -0.5, 0.0, 0.5, 63.5]
    assert x.grad is not None and x.grad.tolist() == [0, 1, 1, 1, 1]


def test_an_operator_without_a_counterpart_is_named(graph: ir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(OPERATORS, "Relu")
    with pytest.raises(NoCounterpart, match="operator Relu"):
        TorchGraph(graph, graph, last_floats(graph))


def test_a_build_goes_on_without_it_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(OPERATORS, "PRelu")
    bars = Told()
    request = BuildRequest("enet", size=(64, 96), data="streets:2@64x96", precisions=("int8",), out=tmp_path)
    (path,) = build(request, bars)
    assert (load(path).manifest.calibration or {})["float_layers"] == {}
    assert any("no layer is left in float" in line and "operator PRelu" in line for line in bars.lines)


def test_layers_that_decide_where_a_maximum_is_cost_what_is_gained_without_them(graph: ir.Model) -> None:
    calibration = calibrate(graph, frames())

    def quantized(keep: Collection[str]) -> ir.Model:
        return quantize(graph, calibration, keep=keep)

    joined = [str(n.outputs[0].name) for n in graph.graph if n.op_type == "Relu"][:2]
    assert deciding(graph) == [sorted(joined)]
    gain = noise(graph, quantized(()), frames()) - noise(graph, quantized(joined), frames())
    found = {layer.name: layer.noise for layer in sensitivity(graph, quantized, frames())}
    assert gain > 0 and all(found[name] >= gain / 2 * 0.999 for name in joined)


def test_what_is_only_moved_stays_exact_between_layers_in_float(graph: ir.Model) -> None:
    """Indices come from exact values, and a layer in int8 behind has its pair."""
    calibration, layers = calibrate(graph, frames()), list(Plan(graph).layers())
    model = quantize(graph, calibration, keep=layers[:2])
    pool = next(n for n in model.graph if n.op_type == "MaxPool")
    assert pool.inputs[0].producer().op_type == "Concat"  # type: ignore[union-attr]
    assert {v.producer().op_type for v in pool.inputs[0].producer().inputs} == {"Relu"}  # type: ignore[union-attr]
    whole = quantize(graph, calibration)
    for name in [str(n.outputs[0].name) for n in graph.graph if n.op_type == "GreaterOrEqual"]:
        float_, kept, rounded = (Exact(m, [name]).run(frames()[0][None])[name] for m in (graph, model, whole))
        assert (float_ == kept).all() and (float_ != rounded).any()
    one = quantize(graph, calibration, keep=layers[:1])  # the other input is in int8, so the join is
    pool = next(n for n in one.graph if n.op_type == "MaxPool")
    assert {v.producer().op_type for v in pool.inputs[0].producer().inputs} == {"DequantizeLinear"}  # type: ignore[union-attr]


@pytest.mark.parametrize("name", RUNNABLE)
def test_engines_pool_and_unpool_in_parts_of_int8_and_float(graph: ir.Model, name: str, tmp_path: Path) -> None:
    calibration, layers = calibrate(graph, frames()), list(Plan(graph).layers())
    target: Any = _targets.load(name, "int8")
    for i, keep in enumerate((layers[:2], layers[:1], layers[2:5], [*layers[:2], layers[4]], layers[1::2])):
        folder = tmp_path / str(i)
        folder.mkdir()
        model = quantize(graph, calibration, target.weight_levels(), keep)
        target.compile(model, "int8", folder)
        manifest = manifest_of(name, model)
        with Engine(manifest, _runtime(folder, manifest, 2)) as engine:
            got = engine.run({"frame": frames()[0][None]})["logits"]
        exact = Exact(model).run(frames()[0][None])["logits"]
        assert sqnr_db(exact, got) > 20, keep
        assert np.median(np.abs(exact - got)) < 0.02 * np.abs(exact).max()
