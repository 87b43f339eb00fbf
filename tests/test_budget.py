"""Which layers stay in float, what each costs, and what biases take back."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeseg.artifact import load
from edgeseg.cli import _status
from edgeseg.datasets import Sample, open_dataset
from edgeseg.errors import CheckFailed, InputError
from edgeseg.export import BuildRequest, _build, build
from edgeseg.export._exact import Exact
from edgeseg.export._score import LabelScore, points
from edgeseg.export.capture import capture
from edgeseg.export.passes import frame_io
from edgeseg.export.passes._rewrite import array
from edgeseg.export.quantize import budget
from edgeseg.export.quantize.bias import input_means
from edgeseg.export.quantize.calibrate import calibrate
from edgeseg.export.quantize.dominant import TIMES, WORK, dominant
from edgeseg.export.quantize.islands import WHY
from edgeseg.export.quantize.layer import Layer
from edgeseg.export.quantize.plan import Plan
from edgeseg.export.quantize.qdq import quantize
from edgeseg.export.sensitivity.layers import noise, sensitivity
from edgeseg.export.ticket import build_tickets, place
from edgeseg.runtimes import open_artifact
from edgeseg.spec import Preprocess

SIZE = (16, 24)


class Chain(nn.Module):
    """Convolutions of every form; the third has one weight so large that int8 has no steps left for the others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False)
        self.coarse, self.up = nn.Conv2d(8, 8, 3, padding=1), nn.ConvTranspose2d(8, 4, 3, 2, 1, 1)
        with torch.no_grad():
            self.coarse.weight[:, 0, 0, 0] = 8.0

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.up(self.coarse(self.grouped(self.first(x).relu()).relu()).relu())
        return out


@pytest.fixture(scope="module")
def graph() -> ir.Model:
    torch.manual_seed(0)
    model = capture(Chain().eval(), SIZE)
    frame_io.apply(model, Preprocess(SIZE), SIZE, "both")
    return model


def frames(count: int = 4) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(count)]


def test_the_layer_that_int8_costs_most_is_found_and_the_graph_stays_as_it_is(graph: ir.Model) -> None:
    before = ir.to_proto(graph).SerializeToString(deterministic=True)
    found = sensitivity(graph, partial(quantize, graph, calibrate(graph, frames()), 127), frames())
    assert [layer.name for layer in found] == list(Plan(graph).layers())
    assert sum(layer.work for layer in found) == pytest.approx(1)
    relus = [str(n.outputs[0].name) for n in graph.graph if n.op_type == "Relu"]
    assert max(found, key=lambda layer: layer.noise).name == relus[2]
    assert ir.to_proto(graph).SerializeToString(deterministic=True) == before
    convolution = next(layer for layer in found if layer.name == relus[1])  # 8 × (8/4) × 3 × 3 taps at 8 × 12
    assert convolution.operators == "Conv+Relu"
    whole = sum(n for n in (3 * 8 * 9 * 96, 2 * 8 * 9 * 96, 8 * 8 * 9 * 96, 8 * 4 * 9 * 96))
    assert convolution.work == pytest.approx(2 * 8 * 9 * 96 / whole, rel=0.05)


def test_what_a_layer_costs_is_what_it_brings_alone(graph: ir.Model) -> None:
    """Its graph with all others in float, run in plain arithmetic, against what the derivatives told."""
    calibration, layers = calibrate(graph, frames()), list(Plan(graph).layers())
    told = {x.name: x for x in sensitivity(graph, partial(quantize, graph, calibration, 127), frames(16))}
    assert list(told) == layers
    for name in layers:
        model = quantize(graph, calibration, 127, [other for other in layers if other != name])
        assert told[name].db == pytest.approx(-10 * np.log10(noise(graph, model, frames(16))), abs=2)


def test_layers_in_float_hand_on_what_they_computed(graph: ir.Model) -> None:
    """A pair stands only where a layer in int8 reads or writes, so two in a row in float round nothing between."""
    calibration, layers = calibrate(graph, frames()), list(Plan(graph).layers())
    model = quantize(graph, calibration, 127, layers[1:3])
    first, second = (n for n in model.graph if n.op_type == "Conv" and array(n.inputs[1]) is not None)
    assert second.inputs[0] is not None and second.inputs[0].producer().op_type == "Relu"  # type: ignore[union-attr]
    assert first.inputs[0].producer().op_type == "DequantizeLinear"  # type: ignore[union-attr]


def test_biases_take_back_the_mean_shift(graph: ir.Model) -> None:
    """With the ranges so small that much is clipped: what one layer alone shifts is mostly gone."""
    calibration = calibrate(graph, frames())
    for name in calibration.ranges:
        calibration.ranges[name] *= 0.6
    means, layers = input_means(graph, calibration.ranges, frames()), Plan(graph).layers()
    assert len(layers) == 4
    for name, nodes in layers.items():
        rest = [other for other in layers if other != name]
        exact, plain, corrected = (
            _mean(m, str(nodes[0].outputs[0].name))
            for m in (graph, *(quantize(graph, calibration, 127, rest, given) for given in (None, means)))
        )
        left = 0.9 if nodes[0].op_type == "ConvTranspose" else 0.5  # borders have another mean
        assert np.abs(corrected - exact).max() < left * np.abs(plain - exact).max(), name


def _mean(model: ir.Model, name: str) -> NDArray[np.float32]:
    exact = Exact(model, [name])
    values = np.concatenate([exact.run(frame[None])[name] for frame in frames()])
    return np.asarray(values[:, :, 2:-2, 2:-2].mean((0, 2, 3)))


def layer(name: int, work: float, noise: float) -> Layer:
    return Layer(f"layer {name}", "Conv", work, noise)


@given(
    st.lists(st.tuples(st.floats(0.001, 1), st.floats(0, 10)), min_size=1, max_size=40),
    st.floats(0, 30),
)
def test_what_is_returned_was_measured_and_holds(costs: list[tuple[float, float]], allowed: float) -> None:
    layers = [layer(i, work, noise) for i, (work, noise) in enumerate(costs)]
    noises = {x.name: x.noise for x in layers}
    asked: list[frozenset[str]] = []

    def drop(keep: object) -> float:
        asked.append(frozenset(keep))  # type: ignore[call-overload]
        return sum(noise for name, noise in noises.items() if name not in asked[-1])

    keep, lost = budget.within(allowed, lambda: layers, drop)
    assert lost <= allowed + 1e-9
    assert frozenset(keep) in asked
    assert [x.name for x in layers if x.name in keep] == keep  # the graph's order
    assert len(asked) == len(set(asked))  # nothing is measured twice
    assert len(asked) <= 2 * len(layers).bit_length() + budget.RETURNS + 2


def test_cheap_noisy_layers_are_kept_and_where_none_must_be_none_are_looked_for() -> None:
    layers = [layer(0, 0.90, 5.0), layer(1, 0.02, 4.0), layer(2, 0.02, 0.1), layer(3, 0.06, 0.1)]
    noises = {x.name: x.noise for x in layers}
    keep, _ = budget.within(5.5, lambda: layers, lambda keep: sum(v for k, v in noises.items() if k not in keep))
    assert keep == ["layer 1"]

    def never() -> list[Layer]:
        raise AssertionError("no layer's noise is needed where the budget holds")

    assert budget.within(1.0, never, lambda keep: 0.9) == ([], 0.9)


def test_a_score_without_labels_is_none() -> None:
    score = LabelScore(SIZE, 3, None)
    score.add(Sample("a", frames(1)[0]), lambda _: {"labels": np.zeros((1, *SIZE), np.uint8)})
    assert np.isnan(score.points())


@given(st.lists(st.tuples(st.floats(0.001, 1), st.floats(0, 10)), min_size=1, max_size=40))
def test_what_dominates_brings_much_for_little(costs: list[tuple[float, float]]) -> None:
    whole = sum(work for work, _ in costs)
    layers = [layer(i, work / whole, noise) for i, (work, noise) in enumerate(costs)]
    total, found = sum(x.noise for x in layers), dominant(layers)
    kept = [x for x in layers if x.name in found]
    assert list(found) == [x.name for x in kept]  # the graph's order
    assert sum(x.work for x in kept) <= WORK
    for x in kept:
        assert x.noise / total >= TIMES * (x.work + 1 / len(layers)) * 0.999


def test_dominating_layers_are_told_and_even_noise_has_none() -> None:
    layers = [layer(0, 0.02, 6.0), *(layer(i, 0.02, 4 / 49) for i in range(1, 50))]
    assert dominant(layers) == {"layer 0": "brings 60.0% of the noise for 2.0% of the work"}
    assert dominant([layer(0, 1.0, 0.0)]) == dominant([]) == {}


BUILD: dict[str, Any] = {
    "model": "enet", "size": (96, 128), "precisions": ("int8",), "targets": ("onnxruntime",), "calib_images": 8,
    "output": "both",
}  # fmt: skip


def test_a_build_within_its_budget_says_which_layers_it_kept_and_what_its_engine_loses(tmp_path: Path) -> None:
    labels = "streets:6@96x128:val"
    budgeted = {"data": "streets:8@96x128:train", "labels": labels, "max_drop": 0.0, "precisions": ("fp32", "int8")}
    paths = build(BuildRequest(**{**BUILD, **budgeted}, out=tmp_path))
    entry = load(paths[1]).manifest.calibration
    assert entry is not None
    for why in entry["float_layers"].values():
        assert why == WHY or why.startswith("--max-drop 0: ")
    found = entry["max_drop"]
    assert (found["points"], found["labels"], found["lost"].keys()) == (0, labels, {"onnxruntime"})
    data, reached = open_dataset(labels), []
    for path in paths:
        with open_artifact(path) as engine:
            score = LabelScore((96, 128), len(data.classes), data.ignore_index)
            reached.append(points(lambda frame, run=engine.run: run({"frame": frame[None]}), data, score))  # type: ignore[misc]
    assert found["lost"]["onnxruntime"] == pytest.approx(reached[0] - reached[1], abs=0.02)  # fp32's own rounding
    assert found["lost"]["onnxruntime"] <= 0


def test_where_engines_cannot_run_the_graph_may_lose_half(tmp_path: Path) -> None:
    data = "streets:4@64x96:train"
    asked = {"size": (64, 96), "targets": ("tensorrt",), "data": data, "calib_images": 4, "max_drop": 2.0}
    where = place("agx-orin", "6.2", None)
    (path,) = build_tickets(BuildRequest(**{**BUILD, **asked, "output": "labels"}, out=tmp_path), where)
    entry = load(path).manifest.calibration
    assert entry is not None
    assert entry["max_drop"]["lost"].keys() == {"graph"}
    assert entry["max_drop"]["lost"]["graph"] <= 1


def test_a_budget_that_no_layers_in_float_keep_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "within", lambda allowed, layers, drop: ([], drop(()) + 50))
    request = BuildRequest(**{**BUILD, "size": (64, 96)}, data="streets:2@64x96:train", max_drop=0.5, out=tmp_path)
    with pytest.raises(CheckFailed, match=r"--max-drop 0\.5 with all layers in float: allow \d+$"):
        build(request)
    assert not list(tmp_path.glob("enet*"))


def test_layers_that_dominate_stay_in_float_unless_all_is_asked_in_int8_or_they_take_little_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name, more in (("some", {}), ("asked", {"all_int8": True}), ("little", {})):
        if name == "little":
            monkeypatch.setattr(_build, "LEFT", 0.0)
        request = BuildRequest(**{**BUILD, "data": "streets:8@96x128:train", **more}, out=tmp_path / name)
        entry = load(build(request)[0]).manifest.calibration
        assert entry is not None
        found.append(entry)
    some, asked, little = found
    assert 0 < len(some["float_layers"]) < 50 and asked["float_layers"] == little["float_layers"] == {}
    assert all(why == WHY or " of the noise for " in why for why in some["float_layers"].values())
    assert some["noise_db"]["logits"] > asked["noise_db"]["logits"] + 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_drop": -1.0, "data": "streets:2@96x128"}, "--max-drop is how many points"),
        ({"labels": "streets:2@96x128", "data": "streets:2@96x128"}, "--labels are what --max-drop is held on"),
        ({"max_drop": 0.1, "precisions": ("fp32",)}, "give --precision int8 with it"),
        ({"max_drop": 0.1, "data": "streets:2@96x128", "all_int8": True}, "give one of them"),
    ],
)
def test_a_wrong_budget_is_one_line(change: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        build(BuildRequest(**{**BUILD, **change}, out=tmp_path))


def test_sensitivity_prints_all_layers_and_draws_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "layers.svg"
    arguments = ["sensitivity", "enet", "--size", "64x64", "--data", "streets:2@64x64:train", "--plot", str(plot)]
    assert _status([*arguments, "--target", "onnxruntime", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(x["noise"] for x in found["layers"]) == pytest.approx(1)
    bars = [e for e in ElementTree.parse(plot).iter("{http://www.w3.org/2000/svg}rect") if len(e)]
    assert len(bars) == len(found["layers"]) > 100
    noisiest = max(found["layers"], key=lambda x: x["noise"])["layer"]
    assert noisiest in max(bars, key=lambda e: float(e.get("height", "0")))[0].text  # type: ignore[operator]
