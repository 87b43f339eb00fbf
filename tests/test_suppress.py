"""Boxes made in the graph are those that NumPy makes, to the order of equal scores, on the target that has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgeseg.artifact import load
from edgeseg.benchmarks import parity
from edgeseg.benchmarks.logits import sqnr
from edgeseg.boxes import Decoder, Detections, alike, anchor_boxes, clear_of_cut
from edgeseg.datasets import open_dataset
from edgeseg.errors import ArtifactError, CheckFailed, InputError
from edgeseg.export import BuildRequest, build
from edgeseg.export._exact import Exact
from edgeseg.export._tasks import TASKS, Tensors
from edgeseg.export.passes import suppress
from edgeseg.images import letterbox_frame
from edgeseg.manifest import Manifest
from edgeseg.runtimes import open_artifact
from edgeseg.runtimes._detect import given
from edgeseg.runtimes._runtime import Feeds, Outputs
from edgeseg.runtimes._selftest import selftest
from edgeseg.spec import Anchors, Detection, Preprocess

SIZE, FRAME, CLASSES = (64, 96), (80, 100), 3
COUNT = len(anchor_boxes(Anchors(), SIZE))
PREPROCESS = Preprocess(SIZE, letterbox=True)
DATA = "streets:2@240x320:train"
PIXELS = 1e-3  # engines' e**x and NumPy's differ in the last bit


def raw_graph(batch: int = 1, names: tuple[str, str] = suppress.RAW) -> ir.Model:
    """``frame`` (float32 here) holds the raw outputs side by side."""
    tensor, sizes = helper.make_tensor_value_info, (CLASSES, 4)
    split = helper.make_node("Split", ["frame", "sizes"], list(names), axis=2)
    outputs = [tensor(n, TensorProto.FLOAT, [batch, COUNT, s]) for n, s in zip(names, sizes, strict=True)]
    inputs = [tensor("frame", TensorProto.FLOAT, [batch, COUNT, CLASSES + 4])]
    constants = [onnx.numpy_helper.from_array(np.array(sizes), "sizes")]
    graph = helper.make_graph([split], "raw", inputs, outputs, constants)
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def raw_outputs(seed: int, levels: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of confident anchors with boxes that overlap; logits in steps of ``levels``, as int8 has them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-6, 2.5, (COUNT, CLASSES)).astype(np.float32)
    if levels is not None:
        logits = (np.round(logits / levels) * levels).astype(np.float32)
    return logits, rng.normal(0, 0.3, (COUNT, 4)).astype(np.float32)


def same(want: Detections, got: Detections) -> None:
    assert got.count == want.count and (got.classes == want.classes).all()
    assert got.boxes.shape == want.boxes.shape and got.scores.dtype == np.float32 and got.classes.dtype == np.int32
    assert np.abs(got.boxes - want.boxes).max() < PIXELS and np.abs(got.scores - want.scores).max() < 1e-6


@pytest.mark.parametrize("levels", [None, 0.1, 1.0])
@pytest.mark.parametrize("how", [
    Detection(Anchors()), Detection(Anchors(), score_threshold=0.0, iou_threshold=0.3, max_detections=400),
    Detection(Anchors(), score_threshold=0.3, max_detections=5), Detection(Anchors(), score_threshold=1.0),
], ids=["usual", "all", "few", "none"])  # fmt: skip
def test_the_graph_makes_numpys_boxes(how: Detection, levels: float | None) -> None:
    graph = raw_graph()
    suppress.apply(graph, how, PREPROCESS, FRAME)
    onnx.checker.check_model(ir.to_proto(graph))
    assert tuple(o.name for o in graph.graph.outputs) == suppress.OBJECTS
    engine, decoder = Exact(graph), Decoder(how, PREPROCESS, FRAME)
    for seed in range(4):
        logits, deltas = raw_outputs(seed, levels)
        want = decoder(logits, deltas)
        assert want.count > (4 if how.score_threshold < 1 else -1)
        same(want, given(engine.run(np.concatenate([logits, deltas], 1)[None])))


def test_what_it_cannot_take_is_refused() -> None:
    for graph in (raw_graph(batch=2), raw_graph(names=("class_logits", "other"))):
        with pytest.raises(InputError, match="boxes are made of class_logits, box_deltas of one frame"):
            suppress.apply(graph, Detection(Anchors()), PREPROCESS, FRAME)


def test_objects_near_the_cut_may_come_and_go() -> None:
    places = np.arange(4, dtype=np.float32)[:, None] * 20
    boxes = np.concatenate([places, places, places + 10, places + 10], 1)
    classes = np.zeros(4, np.int32)
    full = Detections(boxes, np.array([0.9, 0.6, 0.25, 0.2], np.float32), classes, 4)
    other = Detections(
        (boxes[[0, 1, 3, 2]] + 0.2).astype(np.float32), np.array([0.85, 0.6, 0.0, 0.0], np.float32), classes, 2
    )
    assert clear_of_cut(full, 0.05) == pytest.approx(0.3) and clear_of_cut(other, 0.05) == pytest.approx(0.15)
    assert alike(full, other, clear_of_cut(full, 0.05)) == 1.0 and alike(full, other) == pytest.approx(1.5 / 1.95)
    for changed in (
        replace(other, count=1), replace(other, classes=classes + 1), replace(other, boxes=other.boxes + 9),
        replace(other, scores=np.array([0.7, 0.6, 0.0, 0.0], np.float32)),
    ):  # fmt: skip
        assert alike(full, changed, 0.3) < 0.99 and alike(changed, full, 0.3) < 0.99


@pytest.mark.parametrize(
    ("confident", "logit", "kept"),
    [(0, 0.0, True), (3, -2.0, True), (3, 2.0, False), (COUNT, 2.0, True), (-COUNT, 2.0, True), (-COUNT, -1.0, False)],
    ids=["none", "weak", "sure", "all alike", "one a little better", "one better"],
)
def test_raw_outputs_stay_where_rounding_decides_which_objects_there_are(
    confident: int, logit: float, kept: bool
) -> None:
    logits = np.full((1, COUNT, CLASSES), -9, np.float32)
    logits[0, : abs(confident), 0] = logit
    logits[0, 0, 0] += confident < 0
    deltas, frame = np.zeros((1, COUNT, 4), np.float32), np.zeros((1, *FRAME, 3), np.uint8)
    expected: Tensors = {"frame": frame, "class_logits": logits, "box_deltas": deltas}
    how = Detection(Anchors(), iou_threshold=1.0)
    form, answers, how = TASKS["detection"].suppressed(raw_graph(), expected, how, PREPROCESS, "labels")
    assert how.nms == "graph" and answers["count"].tolist() == [min(abs(confident), 100)]
    assert [o.name for o in form.graph.outputs] == [*suppress.OBJECTS, *(suppress.RAW if kept else ())]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The packaged EfficientDet, raw outputs beside; for int8 a Lite0 with random weights."""
    folder = tmp_path_factory.mktemp("build")
    usual = BuildRequest(
        model="efficientdet", size=(256, 320), frame=(240, 320), targets=("onnxruntime",), output="both",
        precisions=("fp32", "fp16"), data=DATA, out=folder,
    )  # fmt: skip
    drawn = BuildRequest(
        "efficientdet", "random:1", variant="lite0", classes=11, size=(64, 96), frame=(80, 100),
        targets=("onnxruntime",), precisions=("int8",), data="streets:4@80x100:train",
        output="both", out=folder,
    )  # fmt: skip
    return dict(zip(("fp32", "fp16", "int8"), (*build(usual), *build(drawn)), strict=True))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_engine_sees_what_numpy_makes_of_its_raw_outputs(artifacts: dict[str, Path], precision: str) -> None:
    with open_artifact(artifacts[precision]) as engine:
        how, (height, width) = engine.manifest.detection, engine.manifest.frame
        assert how is not None and how.nms == "graph"
        data = open_dataset(f"streets:4@{height}x{width}:val")
        decoder, seen = Decoder(how, engine.manifest.preprocess, engine.manifest.frame), 0
        for i in range(len(data)):
            outputs = engine.run({"frame": data[i].frame[None]})
            want = decoder(*(outputs[name][0] for name in suppress.RAW))
            same(want, engine.postprocess(outputs))
            seen += want.count
        assert seen > 20


def test_a_graph_that_makes_other_objects_of_its_raw_outputs_is_found_out(artifacts: dict[str, Path]) -> None:
    artifact = load(artifacts["fp32"])
    with open_artifact(artifacts["fp32"], selftest=False) as engine:
        assert selftest(engine.run, artifact)["boxes"] == 1.0
        for name in ("boxes", "scores", "classes"):

            def other(feeds: Feeds, name: str = name) -> Outputs:
                outputs = dict(engine.run(feeds))
                return {**outputs, name: np.roll(outputs[name], 1, 1) + outputs[name].dtype.type(1)}

            with pytest.raises(CheckFailed, match="of objects"):
                selftest(other, artifact)


def test_all_targets_see_the_same(artifacts: dict[str, Path], tmp_path: Path) -> None:
    targets = ("openvino", "tflite")
    others = build(BuildRequest("efficientdet", size=(256, 320), frame=(240, 320), targets=targets, out=tmp_path))
    data = open_dataset("streets:4@240x320:val")
    with open_artifact(artifacts["fp32"]) as engine:
        wanted = [engine.detect(data[i].frame) for i in range(len(data))]
    for path in others:
        with open_artifact(path) as engine:
            assert engine.manifest.detection is not None and engine.manifest.detection.nms == "runtime"
            for i, want in enumerate(wanted):
                got = engine.detect(data[i].frame)
                assert got.count == want.count and (got.classes == want.classes).all()
                assert np.abs(got.boxes - want.boxes).max() < 0.01 and np.abs(got.scores - want.scores).max() < 1e-4


def test_the_raw_outputs_are_compared_where_the_answer_hides_them(artifacts: dict[str, Path], tmp_path: Path) -> None:
    data = open_dataset("streets:2@240x320:val")
    assert parity.check(artifacts["fp32"], data).to_json()["sqnr_db"] > 60  # both: they stand beside
    (path,) = build(BuildRequest(
        "efficientdet", size=(256, 320), frame=(240, 320), targets=("onnxruntime",), data=DATA, out=tmp_path
    ))  # fmt: skip
    assert tuple(o.name for o in load(path).manifest.outputs) == suppress.OBJECTS
    figures = parity.check(path, data).to_json()
    assert "sqnr_db" not in figures and figures["agreement"] == 1.0 and figures["passed"]
    assert sqnr(path, data) > 60


def test_real_weights_on_real_images(data_folder: Path, tmp_path: Path) -> None:
    data = open_dataset(f"coco:{data_folder / 'coco_sample'}")
    weights = data_folder / "weights/efficientdet_lite0_coco_int8.dequant.npz"
    paths = build(BuildRequest(
        "efficientdet", weights, size=(320, 320), targets=("onnxruntime", "openvino", "tflite"), out=tmp_path
    ))  # fmt: skip
    frames = [letterbox_frame(data[i].frame, (320, 320), (127.0,) * 3)[0] for i in range(0, len(data), 4)]
    found = []
    for path in paths:
        with open_artifact(path) as engine:
            found.append([engine.detect(frame) for frame in frames])
    for others in found[1:]:
        for want, got in zip(found[0], others, strict=True):
            assert alike(want, got) > 0.999 and got.count == want.count
            assert np.abs(got.scores - want.scores).max() < 1e-3


def test_a_manifest_that_names_other_outputs_is_refused(artifacts: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for file in artifacts["fp32"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    text = (folder / "manifest.json").read_text().replace('"name": "count"', '"name": "number"')
    assert Manifest.from_json(text)
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match="'count' is absent"):
        open_artifact(folder)
