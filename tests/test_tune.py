"""Int8's weights learn, without labels, to give the float network's answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray

from edgeseg.artifact import load
from edgeseg.errors import InputError
from edgeseg.export import BuildRequest, build
from edgeseg.export._build import _Build
from edgeseg.export._exact import Exact, last_floats
from edgeseg.export._tasks import TASKS
from edgeseg.export.passes._rewrite import array
from edgeseg.export.quantize.layer import noise
from edgeseg.export.quantize.plan import Plan
from edgeseg.export.quantize.store import Store
from edgeseg.export.tune import distance, graph, operators, tune
from edgeseg.export.tune.graph import TorchGraph
from edgeseg.export.tune.tuned import Tuned, facts_of, unpacked
from edgeseg.progress import Silent
from tests.test_calibration_store import Told

FRAMES = "streets:16@64x96:train"
REQUEST = BuildRequest("enet", size=(64, 96), data=FRAMES, precisions=("int8",), targets=("onnxruntime",), cache=False)


class Case:
    """The packaged ENet in int8, at a size at which that costs it most."""

    def __init__(self, model: str = "enet", size: tuple[int, int] = (64, 96)) -> None:
        data = f"streets:16@{size[0]}x{size[1]}:train"
        work = _Build(replace(REQUEST, model=model, size=size, data=data), Silent())
        self.found = work._calibrated(work._graph())
        self.exact, self.rounded = self.found.graph, self.found.quantized(127, self.found.floats)
        self.frames, self.task = list(work._frames(16)), work.task

    def tuned(self, store: Store | None = None, bars: Told | None = None) -> Tuned:
        facts = facts_of(self.found.calibration.digest, 127, ())
        return tune.tune(self.exact, self.rounded, 127, self.frames, self.task.distance, facts, store, bars or Silent())


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.fixture(scope="module")
def tuned(case: Case) -> Tuned:
    return case.tuned()


def test_the_quantized_graph_comes_nearer_on_frames_it_never_saw(case: Case, tuned: Tuned) -> None:
    unseen = _Build(replace(REQUEST, data="streets:16@64x96:val"), Silent())._frames(16)
    model = replace(case.found, tuned=tuned).quantized(127, case.found.floats)
    before, after = (divergence(case.exact, m, list(unseen)) for m in (case.rounded, model))
    assert after < 0.8 * before
    assert tuned.steps == 4 * 16 and tuned.distance[1] < tuned.distance[0]


def test_boxes_come_nearer_too() -> None:
    case = Case("efficientdet", (128, 128))
    tuned = case.tuned()
    assert tuned.distance[1] < 0.9 * tuned.distance[0]
    kept = {
        str(n.name) for name, nodes in Plan(case.exact).layers().items() if name in case.found.floats for n in nodes
    }
    assert kept and not kept & tuned.weights.keys()  # the box head is in float: nothing of it is tuned


def test_only_weights_and_biases_differ_and_kept_layers_have_their_own(case: Case, tuned: Tuned) -> None:
    layers = Plan(case.exact).layers()
    keep = next(name for name, nodes in layers.items() if any(n.name in tuned.weights for n in nodes))
    model = tuned.put_into(case.exact, [keep])
    assert [n.op_type for n in model.graph] == [n.op_type for n in case.exact.graph]
    own, other = (
        {str(n.name): array(n.inputs[1]) for n in m.graph if n.name in tuned.weights} for m in (case.exact, model)
    )
    same = {name for name in own if np.array_equal(own[name], other[name])}  # type: ignore[arg-type]
    assert same == {str(n.name) for n in layers[keep] if n.name in tuned.weights}


def test_the_graph_learns_from_what_it_will_compute(case: Case, tuned: Tuned) -> None:
    """The weights that are written round to those that were judged."""
    model = replace(case.found, tuned=tuned).quantized(127, ())
    frame = case.frames[0][None]
    (name,) = last_floats(model)
    with torch.no_grad():
        (learnt,) = TorchGraph(model, tuned.put_into(case.exact, ()), [name], 127).run(torch.from_numpy(frame))
    exact = Exact(model, [name]).run(frame)[name]
    assert (exact.argmax(1) == learnt.numpy().argmax(1)).mean() >= 0.99


def test_in_parts_it_learns_the_same(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def gradients() -> list[NDArray[np.float32]]:
        found = TorchGraph(case.rounded, case.exact, last_floats(case.rounded), 127)
        found.run(torch.from_numpy(case.frames[0][None]))[0].square().mean().backward()  # type: ignore[no-untyped-call]
        assert len(found._parts) > 1 or graph.MOST > 1 << 20
        return [p.grad.numpy() for p in found.parameters() if p.grad is not None]

    whole = gradients()
    monkeypatch.setattr(graph, "MOST", 1 << 18)
    for a, b in zip(whole, gradients(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_rounding_passes_on_what_it_does_not_clip() -> None:
    x = torch.tensor([-3.0, -0.6, 0.2, 0.3, 2.0], requires_grad=True)
    y = graph._rounded(x, torch.tensor(0.5), -2, 2)
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert y.tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert x.grad is not None and x.grad.tolist() == [0, 1, 1, 1, 0]


def test_where_it_comes_no_nearer_the_weights_stay(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "RATE", 10.0)
    found = case.tuned()
    assert found.weights == found.biases == {} and found.steps == 0 and found.distance[0] == found.distance[1]
    model = replace(case.found, tuned=found).quantized(127, ())
    assert noise(case.rounded, model, case.frames[:2]) == 0


def test_tuned_weights_are_kept_by_all_they_follow_from(
    case: Case, tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, bars = Store(tmp_path, "enet"), Told()
    store.keep(facts_of(case.found.calibration.digest, 127, ()), tuned.packed())
    again = case.tuned(store, bars)
    assert bars.lines == ["tuned weights: the kept ones, nothing changed since"]
    assert again.distance == tuned.distance and again.steps == tuned.steps
    assert all((again.weights[name] == values).all() for name, values in tuned.weights.items())
    assert again.weights.keys() == tuned.weights.keys() and again.biases.keys() == tuned.biases.keys()
    one = facts_of("a", 127, ["x"])
    assert store.recall(one) is None
    assert (
        len(
            {
                json.dumps(f, sort_keys=True)
                for f in (one, facts_of("b", 127, ["x"]), facts_of("a", 64, ["x"]), facts_of("a", 127, []))
            }
        )
        == 4
    )
    next(tmp_path.glob("*.safetensors")).write_bytes(b"damaged")
    monkeypatch.setattr(tune, "_tune", lambda *_: unpacked(tuned.packed()))
    case.tuned(store, bars)
    assert len(bars.lines) == 1 and case.tuned(store, bars) and len(bars.lines) == 2  # taken again, and kept again


def test_a_build_says_whether_it_tuned(tmp_path: Path) -> None:
    request = replace(REQUEST, calib_images=4, out=tmp_path / "a")
    (with_it,), (without,) = build(request), build(replace(request, tune=False, out=tmp_path / "b"))
    said = [load(folder).manifest.calibration or {} for folder in (with_it, without)]
    assert said[0]["tuned"]["steps"] == 16 and said[1]["tuned"] is None
    assert said[0]["digest"] != said[1]["digest"] and "tuning" in said[0]["parts"]


def test_what_is_near_enough_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeseg.export._build.FAINT", 1.0)
    (folder,) = build(replace(REQUEST, calib_images=4, out=tmp_path))
    assert (load(folder).manifest.calibration or {})["tuned"] is None


def test_an_operator_without_a_counterpart_is_named(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(operators.OPERATORS, "PRelu")
    with pytest.raises(InputError, match="PRelu"):
        case.tuned()


def test_the_distance_of_labels_is_their_probabilities_divergence() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(1, 5, 4, 6), torch.randn(1, 5, 4, 6)
    p, q = a.softmax(1), b.softmax(1)
    assert distance.labels([a], [b]).item() == pytest.approx(float((p * (p / q).log()).sum(1).mean()), rel=1e-5)
    assert distance.labels([a], [a]).item() == pytest.approx(0, abs=1e-6)
    assert distance.labels([a], [a + 3.0]).item() == pytest.approx(0, abs=1e-6)  # the same probabilities


def test_the_distance_of_boxes_counts_deltas_where_objects_are() -> None:
    classes, deltas = torch.full((1, 3, 2), -8.0), torch.zeros(1, 3, 4)
    classes[0, 1, 0] = 6.0
    moved = [deltas.clone() for _ in range(2)]
    moved[0][0, 1], moved[1][0, 2] = 0.1, 0.1
    near, far = (distance.boxes([classes, deltas], [classes, each]).item() for each in moved)
    assert near == pytest.approx(0.04, rel=0.01) and far < near / 100
    other = classes.clone()
    other[0, 1, 0] = 0.0
    assert distance.boxes([classes, deltas], [other, deltas]).item() > 0.5


def divergence(exact: ir.Model, rounded: ir.Model, frames: list[NDArray[np.uint8]]) -> float:
    ends = [(Exact(m, last_floats(m)), last_floats(m)[0]) for m in (exact, rounded)]
    each = []
    for frame in frames:
        a, b = (torch.from_numpy(e.run(frame[None])[name]) for e, name in ends)
        each.append(TASKS["semantic"].distance([a], [b]).item())
    return float(np.mean(each))
