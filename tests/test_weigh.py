"""Ranges by what errors count for in the answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeseg.artifact import load
from edgeseg.export import BuildRequest, build
from edgeseg.export._exact import Exact, last_floats
from edgeseg.export.capture import capture
from edgeseg.export.passes import frame_io, unpool
from edgeseg.export.passes.suppress import RAW
from edgeseg.export.quantize.calibrators import mse, weighted
from edgeseg.export.quantize.histogram import Histogram
from edgeseg.export.quantize.observe import Histograms, histograms
from edgeseg.export.sensitivity import graph as torch_graph
from edgeseg.export.sensitivity.layers import answers, deciding
from edgeseg.export.sensitivity.operators import OPERATORS
from edgeseg.export.sensitivity.weigh import weigh
from edgeseg.spec import Preprocess
from tests.test_calibration_store import Told
from tests.test_quantize import SIZE, captured, frames
from tests.test_sensitivity import Pooled


class Uneven(nn.Module):
    """One channel is large, three are small; only channel ``READ`` goes on to the answer."""

    READ = 0

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1)
        with torch.no_grad():
            self.first.weight[0] *= 20
            self.last.weight[:, [c for c in range(4) if c != self.READ]] = 0

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.first(x).relu())
        return out


class ReadsSmall(Uneven):
    READ = 1


def weighed(model: ir.Model, images: list[NDArray[np.uint8]]) -> Histograms:
    found = histograms(model, images)
    weigh(model, found, images)
    return found


def test_what_does_not_reach_the_answer_sets_no_range() -> None:
    large, small = (
        next(h for name, h in weighed(captured(net), frames()).items() if name == "relu")
        for net in (Uneven, ReadsSmall)
    )
    assert weighted(small) < 0.5 * mse(small) < 0.5 * weighted(large) * 1.01


def test_weights_are_the_derivatives_squares() -> None:
    """Of the answer itself: those of one random number for each of its elements, relative to its size."""
    model, images = captured(Uneven), frames(4)
    found = weighed(model, images)["logits"]
    sizes = [float(np.square(Exact(model).run(image[None])["logits"]).sum()) for image in images]
    expected = sum(2 * 16 * 24 / size for size in sizes)
    assert found.weights.sum() == pytest.approx(expected, rel=0.1)


def test_weights_lie_where_values_do_and_nothing_that_decides_has_any(monkeypatch: pytest.MonkeyPatch) -> None:
    model = captured(Pooled, unpool)
    whole = weighed(model, frames())
    decide = {name for group in deciding(model) for name in group}
    assert decide and all(not whole[name].weights.any() for name in decide)
    assert sum(h.weights.any() for h in whole.values()) > 3
    for histogram in whole.values():
        near = np.convolve(histogram.counts, np.ones(3), "same")  # the last digit may fall across a bin's end
        assert not histogram.weights[near == 0].any()
    monkeypatch.setattr(torch_graph, "MOST", 4 * 8 * 16 * 24)  # in parts it is the same
    for name, histogram in weighed(model, frames()).items():
        np.testing.assert_allclose(histogram.weights, whole[name].weights, rtol=1e-4)


def test_without_weights_it_is_the_squared_error() -> None:
    histogram = Histogram()
    histogram.add(np.random.default_rng(0).standard_cauchy(10_000).astype(np.float32))
    assert weighted(histogram) == mse(histogram)
    histogram.weights += histogram.counts * 3.0
    assert weighted(histogram) == mse(histogram)


def test_a_build_without_derivatives_goes_on_by_the_squared_error_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for calibrator in ("weighted", "mse"):
        monkeypatch.delitem(OPERATORS, "PRelu", raising=False)
        bars = Told()
        request = BuildRequest(
            "enet", size=(64, 96), data="streets:2@64x96", precisions=("int8",), calibrator=calibrator,
            targets=("onnxruntime",), cache=False, out=tmp_path / calibrator,
        )  # fmt: skip
        found.append(load(build(request, bars)[0]).manifest)
        assert any("its weights are not known: operator PRelu" in line for line in bars.lines)
    assert found[0].onnx_sha256 == found[1].onnx_sha256
    assert (found[0].calibration or {})["method"] == "weighted"


class Detector(nn.Module):
    """Two anchors at each place, three classes; hardly anything is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.classes, self.boxes = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.first(x).relu()
        classes, boxes = (y.flatten(2).transpose(1, 2) for y in (20 * self.classes(x) - 8, self.boxes(x)))
        return classes.reshape(1, -1, 3), boxes.reshape(1, -1, 4)


def test_a_detector_is_weighed_by_its_scores_and_by_the_boxes_of_what_it_sees() -> None:
    torch.manual_seed(0)
    model = capture(Detector().eval(), SIZE, outputs=RAW)
    frame_io.apply_frame(model, Preprocess(SIZE), SIZE)
    frame = frames()[0]
    logits, boxes = (torch.tensor(v) for v in Exact(model).run(frame[None]).values())
    scores, seen = answers(torch_graph.TorchGraph(model, model, last_floats(model)), frame)
    assert torch.allclose(scores, logits.sigmoid(), atol=1e-5)
    assert torch.allclose(seen, boxes * logits.sigmoid().max(-1, keepdim=True).values, atol=1e-5)
    assert scores.median() < 0.01 < 0.1 < scores.max()


def test_a_segmentation_network_is_weighed_by_its_logits() -> None:
    model = captured(Uneven)
    (found,) = answers(torch_graph.TorchGraph(model, model, last_floats(model)), frames()[0])
    assert np.allclose(found.detach().numpy(), Exact(model).run(frames()[0][None])["logits"], atol=1e-5)
