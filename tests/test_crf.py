"""The fully connected CRF: the same beliefs as every pixel summed with every other, and better labels than before."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeseg.artifact import entries, whole_folder, write_golden
from edgeseg.benchmarks.latency import bench
from edgeseg.datasets import open_dataset
from edgeseg.errors import InputError
from edgeseg.manifest import Manifest, ModelEntry, Weights
from edgeseg.metrics import agreement, confusion, miou
from edgeseg.runtimes import open_artifact, targets
from edgeseg.runtimes.crf import (
    DEEPLAB_V2_RESNET101,
    DEEPLAB_V2_VGG16,
    CrfParameters,
    DenseCrf,
    segment_with_crf,
)
from edgeseg.runtimes.crf._permutohedral import PermutohedralLattice, _elevate, enclosing_simplex
from edgeseg.spec import ClassSpec, Preprocess, TensorSpec

CLASSES = 11
PUBLISHED = {"largefov": CrfParameters(), "v2-vgg16": DEEPLAB_V2_VGG16, "v2-resnet101": DEEPLAB_V2_RESNET101}
SCENES = open_dataset("streets:5@240x320:val")


def scene(index: int, height: int = 240, width: int = 320) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Frame and labels: the whole scene, or a part of its middle, where most edges are."""
    sample, top, left = SCENES[index], (240 - height) // 2, (320 - width) // 2
    assert sample.labels is not None
    window = np.s_[top : top + height, left : left + width]
    return sample.frame[window], sample.labels[window]


def noisy_logits(labels: NDArray[np.uint8], seed: int) -> NDArray[np.float32]:
    """Logits that favour the true class by two standard deviations: a third of the pixels answer wrongly."""
    favour = 3 * np.moveaxis(np.eye(CLASSES)[labels], -1, 0)
    return (favour + np.random.default_rng(seed).normal(0, 1.5, favour.shape)).astype(np.float32)


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(scores - scores.max(0))
    return np.asarray(powers / powers.sum(0))


def gaussian(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every pair of points, N×N, with rows of sum 1."""
    squares = (features**2).sum(1)
    kernel = np.exp(features @ features.T - (squares[:, None] + squares) / 2)
    return np.asarray(kernel / kernel.sum(1, keepdims=True))


def brute_force(
    frame: NDArray[np.uint8], logits: NDArray[np.float32], p: CrfParameters
) -> NDArray[np.float64]:  # fmt: skip
    """Mean field with the two kernels written out, float64 C×H×W."""
    place = np.moveaxis(np.indices(frame.shape[:2]), 0, -1).reshape(-1, 2).astype(np.float64)
    color = frame.reshape(-1, 3) / p.sigma_beta
    appearance, smoothness = gaussian(np.hstack([place / p.sigma_alpha, color])), gaussian(place / p.sigma_gamma)
    scores = logits.reshape(len(logits), -1).astype(np.float64)
    belief = softmax(scores)
    for _ in range(p.iterations):
        belief = softmax(scores + p.w1 * belief @ appearance.T + p.w2 * belief @ smoothness.T)
    return belief.reshape(logits.shape)


@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("published", PUBLISHED)
def test_as_brute_force(published: str, seed: int) -> None:
    """The lattice is an approximation: 99 % of labels, marginals within 0.005 on average (seen: 0.001) and
    within 0.1 on 98 % of pixels."""
    frame, labels = scene(seed, 40, 48)
    assert len(np.unique(labels)) >= 4, "few edges"
    logits = noisy_logits(labels, seed)
    exact = brute_force(frame, logits, PUBLISHED[published])
    found = DenseCrf(PUBLISHED[published]).marginals(frame, logits)
    assert agreement(found.argmax(0), exact.argmax(0)) >= 0.99
    assert np.abs(found - exact).mean() <= 0.005
    assert np.mean(np.abs(found - exact).max(0) <= 0.1) >= 0.98


def test_smoothness_alone_is_exact() -> None:
    frame, labels = scene(0, 40, 48)
    logits, p = noisy_logits(labels, 0), CrfParameters(w1=0)
    np.testing.assert_allclose(DenseCrf(p).marginals(frame, logits), brute_force(frame, logits, p), atol=1e-4)


def test_a_noisy_scene_becomes_its_labels() -> None:
    frame, labels = scene(1)
    logits = noisy_logits(labels, 0)
    start = time.process_time()
    refined = DenseCrf().refine(frame, logits)
    spent = time.process_time() - start
    before, after = (
        confusion(labels, answer, CLASSES) for answer in (logits.argmax(0).astype(np.uint8), refined)
    )  # fmt: skip
    assert refined.dtype == np.uint8
    assert np.trace(before) / before.sum() < 0.7
    assert np.trace(after) / after.sum() > 0.97
    assert miou(after)[0] > miou(before)[0] + 20
    assert spent < 15, "seconds of processor time for 240×320 pixels of 11 classes"


@pytest.mark.parametrize("seed", range(3))
def test_an_edge_that_the_network_blurred_returns_to_the_frames(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((48, 64))
    slope = rng.uniform(-0.5, 0.5)
    side = (columns + slope * rows > 30).astype(np.uint8)
    colors = rng.permutation([[40, 60, 50], [190, 150, 170]])
    frame = np.clip(colors[side] + rng.normal(0, 4, (48, 64, 3)), 0, 255).astype(np.uint8)
    ramp = np.clip((columns + slope * rows - 33.5) / 3, -2, 2)  # the network sees the edge three pixels off
    logits = np.stack([-ramp, ramp]).astype(np.float32)
    assert np.mean(logits.argmax(0) == side) < 0.96
    np.testing.assert_array_equal(DenseCrf().refine(frame, logits), side)


@pytest.mark.parametrize("parameters", [CrfParameters(iterations=0), CrfParameters(w1=0, w2=0)])
def test_without_coupling_the_marginals_are_the_softmax(parameters: CrfParameters) -> None:
    frame, labels = scene(0, 20, 24)
    logits = noisy_logits(labels, 0)
    found = DenseCrf(parameters).marginals(frame, logits)
    assert found.dtype == np.float32
    assert found.shape == logits.shape
    np.testing.assert_allclose(found, softmax(logits.astype(np.float64)), atol=1e-6)


def test_probabilities_go_in_as_their_logarithms() -> None:
    frame, labels = scene(0, 20, 24)
    logits = noisy_logits(labels, 0)
    probabilities = softmax(logits.astype(np.float64))
    found = DenseCrf().marginals(frame, np.log(probabilities).astype(np.float32))
    np.testing.assert_allclose(found, DenseCrf().marginals(frame, logits), atol=1e-3)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


def test_one_pixel_and_one_color() -> None:
    logits = np.array([1, 3, 2], np.float32)[:, None, None]
    for size in ((1, 1), (1, 9), (7, 5)):
        flat = np.full((*size, 3), 200, np.uint8)
        spread = np.ascontiguousarray(np.broadcast_to(logits, (3, *size)))
        np.testing.assert_array_equal(DenseCrf().refine(flat, spread), np.ones(size, np.uint8))


@given(st.integers(1, 6), st.integers(0, 2**32), st.floats(0.1, 100))
def test_a_point_lies_in_its_simplex(d: int, seed: int, spread: float) -> None:
    features = np.random.default_rng(seed).normal(0, spread, (50, d)).astype(np.float32)
    origin, rank, weights = enclosing_simplex(features)
    corner = np.arange(d + 1)
    corners = origin[:, None] + corner[:, None] - (d + 1) * (rank[:, None] > d - corner[:, None])
    assert (origin % (d + 1) == 0).all()
    assert (corners.sum(2) == 0).all()
    assert weights.min() >= -1e-3
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-3)
    np.testing.assert_allclose((weights[..., None] * corners).sum(1), _elevate(features), atol=1e-2 * (d + 1))


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_lattice_averages_as_a_gaussian(d: int) -> None:
    rng = np.random.default_rng(d)
    features = rng.uniform(0, 3, (1500, d)).astype(np.float32)
    values = np.stack([np.sin(features.sum(1)), features[:, 0]])
    found = PermutohedralLattice(features).average(values.astype(np.float32))
    exact = values @ gaussian(features.astype(np.float64)).T
    assert np.abs(found - exact).max() <= 0.05 * np.ptp(values)


def test_published_parameters() -> None:
    """(w1, σα, σβ, w2, σγ, iterations): the papers' w2, σγ and iterations, the authors' scripts' others."""
    assert CrfParameters() == CrfParameters(4, 49, 5, 3, 3, 10)
    assert CrfParameters(4, 65, 3, 2, 2, 10) == DEEPLAB_V2_VGG16
    assert CrfParameters(4, 67, 3, 3, 1, 10) == DEEPLAB_V2_RESNET101


@pytest.mark.parametrize(
    "wrong", [{"sigma_alpha": 0}, {"sigma_beta": -1}, {"sigma_gamma": 0}, {"w1": -1}, {"w2": -1}, {"iterations": -1}]
)
def test_bad_parameters(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        CrfParameters(**wrong)  # type: ignore[arg-type]


FRAME, LOGITS = np.zeros((4, 6, 3), np.uint8), np.zeros((2, 4, 6), np.float32)


@pytest.mark.parametrize(
    ("frame", "logits", "message"),
    [
        (FRAME.astype(np.float32), LOGITS, r"frame must be uint8 \[H, W, 3\], got float32 \[4, 6, 3\]"),
        (FRAME[..., 0], LOGITS, r"frame must be uint8 \[H, W, 3\], got uint8 \[4, 6\]"),
        (FRAME, LOGITS[:, :3], r"logits must be float32 \[C, 4, 6\], got float32 \[2, 3, 6\]"),
        (FRAME, LOGITS[0], r"logits must be float32 \[C, 4, 6\], got float32 \[4, 6\]"),
        (FRAME, LOGITS.astype(np.float64), r"logits must be float32 \[C, 4, 6\], got float64"),
    ],
)
def test_bad_input(frame: NDArray[np.uint8], logits: NDArray[np.float32], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DenseCrf().refine(frame, logits)


def test_sigmas_too_small_for_the_frame() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    with pytest.raises(InputError, match="sigmas are too small"):
        DenseCrf(CrfParameters(sigma_beta=1e-3, sigma_alpha=1e-3)).refine(frame, LOGITS)


SIZE, COLORS, SPREAD = (48, 64), np.array([[60, 80, 70], [150, 130, 140]]), 80


def color_network(outputs: list[str]) -> onnx.ModelProto:
    """frame uint8 1×H×W×3 → logits of two classes, each the likelier the nearer a pixel's color is to its own."""
    weight = (COLORS / SPREAD**2).astype(np.float32)[..., None, None]
    bias = (-(COLORS**2).sum(1) / (2 * SPREAD**2)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["channels", "weight", "bias"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], ["best"], axis=1, keepdims=0),
        helper.make_node("Cast", ["best"], ["labels"], to=TensorProto.UINT8),
    ]
    kinds = {"labels": (TensorProto.UINT8, [1, *SIZE]), "logits": (TensorProto.FLOAT, [1, 2, *SIZE])}
    graph = helper.make_graph(
        nodes,
        "colors",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, *SIZE, 3])],
        [helper.make_tensor_value_info(name, *kinds[name]) for name in outputs],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def artifact(path: Path, outputs: list[str]) -> Path:
    """``color_network`` for ONNX Runtime, with the outputs of its graph."""
    ort = pytest.importorskip("onnxruntime", reason="no ONNX Runtime: no engine to refine")
    model, frame = color_network(outputs), np.zeros((1, *SIZE, 3), np.uint8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    golden = dict(zip(outputs, session.run(outputs, {"frame": frame}), strict=True))
    with whole_folder(path) as folder:
        onnx.save(model, folder / "model.onnx")
        files = ["model.onnx", write_golden(folder, {"frame": frame, **golden})]
        manifest = Manifest(
            model=ModelEntry("colors", "plain", "semantic", 8, 0.1, "none", Weights("made", "0" * 64)),
            target="onnxruntime",
            precision="fp32",
            inputs=(TensorSpec("frame", (1, *SIZE, 3), "uint8"),),
            outputs=tuple(TensorSpec(name, golden[name].shape, str(golden[name].dtype)) for name in outputs),
            preprocess=Preprocess(SIZE),
            classes=tuple(ClassSpec(name, (i, i, i)) for i, name in enumerate("ab")),
            ignore_index=None,
            files=entries(folder, files),
            calibration=None,
            toolchain={},
            device=None,
            onnx_sha256="0" * 64,
            created="2026-01-01T00:00:00+00:00",
        )
        (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return path


def test_segment_with_crf_refines_what_the_engine_saw(tmp_path: Path) -> None:
    side = (np.indices(SIZE)[1] > 30).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 40, (*SIZE, 3))
    frame = np.clip(COLORS[side] + noise, 0, 255).astype(np.uint8)
    crf = DenseCrf(CrfParameters(sigma_beta=40))
    with open_artifact(artifact(tmp_path / "colors", ["labels", "logits"])) as engine:
        logits = engine.run({"frame": frame[None]})["logits"][0]
        labels = segment_with_crf(engine, frame, crf)
        before = agreement(engine.segment(frame), side)
    np.testing.assert_array_equal(labels, crf.refine(frame, logits))
    assert before < 0.96
    assert agreement(labels, side) > 0.98


def test_segment_with_crf_needs_logits(tmp_path: Path) -> None:
    frame = np.zeros((*SIZE, 3), np.uint8)
    with (
        open_artifact(artifact(tmp_path / "colors", ["labels"])) as engine,
        pytest.raises(InputError, match="--output logits or both"),
    ):
        segment_with_crf(engine, frame, DenseCrf())


def test_it_is_timed_as_a_stage_of_its_own(tmp_path: Path) -> None:
    path = artifact(tmp_path / "colors", ["labels", "logits"])
    plain, refined = (bench(path, seconds=0.1, threads=1, crf=crf)["stages_ms"] for crf in (False, True))
    assert refined["postprocess"] > 100 * plain["postprocess"]
    with pytest.raises(InputError, match="--output logits or both"):
        bench(artifact(tmp_path / "labels", ["labels"]), seconds=0.1, crf=True)


def test_the_crf_is_no_target_and_is_loaded_only_when_used() -> None:
    assert "crf" not in targets()
    heavy = ("torch", "onnx", "scipy", "PIL")
    code = (
        "import sys, edgeseg.runtimes; early = 'edgeseg.runtimes.crf' in sys.modules; import edgeseg.runtimes.crf;"
        f"print(early, [m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False []", done.stdout + done.stderr
