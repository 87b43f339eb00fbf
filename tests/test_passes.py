"""The contract of every pass: exact on real networks, and a second run changes nothing. Each one's own proof too."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeseg.export import passes
from edgeseg.export.capture import capture
from edgeseg.export.passes import activation_before_concat, fold_batchnorm, frame_io, simplify, unpool
from edgeseg.spec import Preprocess
from tests.networks import Case, cases

ENDS = ("frame_io", "suppress")  # they add to the graph; their tests are elsewhere
REWRITES = sorted(f.stem for f in Path(passes.__path__[0]).glob("[a-z]*.py") if f.stem not in ENDS)


def run(model: ir.Model, feeds: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


class Captured:
    """A network's graph as it is captured, and what it answers."""

    def __init__(self, case: Case) -> None:
        network = case.fresh(5)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):  # statistics that would show if they were folded wrongly
                nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
                nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
                nn.init.uniform_(module.weight, -1.2, 1.2)
        self.model = capture(network.eval(), case.size)
        rng, shape = np.random.default_rng(0), (1, 3, *case.size)
        self.inputs = (rng.random(shape, np.float32), rng.integers(0, 2, shape).astype(np.float32))
        self.answers = [run(self.model, {"x": x})[0] for x in self.inputs]


@pytest.fixture(scope="module", params=cases(), ids=str)
def captured(request: pytest.FixtureRequest) -> Captured:
    return Captured(request.param)


@pytest.mark.parametrize("name", REWRITES)
def test_changes_no_result(name: str, captured: Captured) -> None:
    rewrite: ModuleType = importlib.import_module(f"edgeseg.export.passes.{name}")
    model = captured.model.clone()
    if not rewrite.apply(model):
        return
    for x, before in zip(captured.inputs, captured.answers, strict=True):
        after = run(model, {"x": x})[0]
        # Folding rounds differently, and unpooling passes on which of two nearly equal values was larger.
        assert np.median(np.abs(after - before)) <= 1e-5 * np.abs(before).max()
        assert (after.argmax(1) == before.argmax(1)).mean() > 0.999


@pytest.mark.parametrize("name", [n for n in REWRITES if n != "simplify"])
def test_has_nothing_left_to_do(name: str, captured: Captured) -> None:
    rewrite = importlib.import_module(f"edgeseg.export.passes.{name}")
    model = captured.model.clone()
    rewrite.apply(model)
    assert not rewrite.apply(model)


def test_together_they_leave_only_what_every_target_has(captured: Captured) -> None:
    model = captured.model.clone()
    for rewrite in (simplify, fold_batchnorm, activation_before_concat, unpool):
        rewrite.apply(model)
    kinds = {n.op_type for n in model.graph}
    assert not kinds & {
        "BatchNormalization",
        "MaxUnpool",
        "ScatterND",
        "ScatterElements",
        "NonZero",
        "Loop",
        "If",
    }
    assert all(len(n.outputs) == 1 for n in model.graph if n.op_type == "MaxPool")
    for node in model.graph:
        if node.op_type == "PRelu":
            assert node.inputs[0].producer().op_type != "Concat"  # type: ignore[union-attr]


class Normed(nn.Module):
    """BatchNorm in every place: behind a Concat of a convolution and a pool, behind a transposed convolution of
    two groups, and behind something with two readers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 5, 3, padding=1), nn.MaxPool2d(3, 1, 1)
        self.joined = nn.BatchNorm2d(8)
        self.up, self.up_norm = nn.ConvTranspose2d(8, 6, 2, 2, groups=2), nn.BatchNorm2d(6)
        self.last = nn.BatchNorm2d(6)
        for norm in (self.joined, self.up_norm, self.last):
            nn.init.uniform_(norm.running_mean, -1, 1)  # type: ignore[arg-type]
            nn.init.uniform_(norm.running_var, 0.3, 2)  # type: ignore[arg-type]
            nn.init.uniform_(norm.weight, -2, 2)
            nn.init.uniform_(norm.bias, -1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up_norm(self.up(torch.relu(self.joined(torch.cat((self.conv(x), self.pool(x)), 1)))))
        out: Tensor = x + self.last(x)
        return out


def test_batch_norm_folds_everywhere() -> None:
    torch.manual_seed(0)
    network = Normed().eval()
    model = capture(network, (9, 11))
    assert fold_batchnorm.apply(model)
    assert "BatchNormalization" not in {n.op_type for n in model.graph}
    x = torch.randn(1, 3, 9, 11)
    with torch.no_grad():
        want = network(x).numpy()
    assert np.abs(run(model, {"x": x.numpy()})[0] - want).max() <= 2e-5 * np.abs(want).max()


@pytest.mark.parametrize("slopes", [1, 8])
def test_activation_moves_before_the_concat(slopes: int) -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.act = nn.Conv2d(3, 5, 1), nn.Conv2d(3, 3, 1), nn.PReLU(slopes)
            nn.init.uniform_(self.act.weight, -0.5, 1.5)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.act(torch.cat((self.a(x), self.b(x)), 1))
            return out

    network = Joined().eval()
    model = capture(network, (4, 6))
    assert activation_before_concat.apply(model)
    assert [n.op_type for n in model.graph][-1] == "Concat"
    x = torch.randn(1, 3, 4, 6)
    with torch.no_grad():
        assert np.allclose(run(model, {"x": x.numpy()})[0], network(x).numpy(), atol=1e-6)


def test_a_simplifier_that_changes_results_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxsim

    model = capture(nn.Conv2d(3, 2, 1), (4, 4))
    wrong = ir.to_proto(capture(nn.Conv2d(3, 2, 1), (4, 4)))
    monkeypatch.setattr(onnxsim, "simplify", lambda proto: (wrong, True))
    before = [n.name for n in model.graph], dict(model.graph.initializers)
    assert not simplify.apply(model)
    assert before == ([n.name for n in model.graph], dict(model.graph.initializers))


@pytest.mark.parametrize("output", ["labels", "logits", "both"])
@pytest.mark.parametrize(("order", "frame"), [("RGB", (8, 12)), ("BGR", (13, 9)), ("RGB", (41, 37))])
def test_frame_in_labels_out(order: str, frame: tuple[int, int], output: str) -> None:
    from edgeseg.models._reference import Reference

    torch.manual_seed(0)
    network, preprocess = (
        nn.Conv2d(3, 4, 3, padding=1),
        Preprocess((8, 12), (10, 20, 30), (50, 60, 70), order),
    )
    model = capture(network, (8, 12))
    frame_io.apply(model, preprocess, frame, output)
    assert [o.name for o in model.graph.outputs] == (["labels", "logits"] if output == "both" else [output])
    image = np.random.default_rng(0).integers(0, 256, (*frame, 3), np.uint8)
    logits, labels = Reference(network, preprocess).run(image)
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    got = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"frame": image[None]}), strict=True))
    if "logits" in got:
        assert np.allclose(got["logits"][0], logits, atol=1e-4)
    if "labels" in got:
        assert got["labels"].dtype == np.uint8 and (got["labels"][0] == labels).mean() > 0.995
