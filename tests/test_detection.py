"""From frame to boxes: letterboxing in the graph, every target, and the whole path by the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from edgeseg import models
from edgeseg.artifact import load
from edgeseg.benchmarks import parity
from edgeseg.benchmarks._detection import matches
from edgeseg.boxes import Decoder, Detections, anchor_boxes
from edgeseg.cli.run import run
from edgeseg.datasets import open_dataset
from edgeseg.errors import ArtifactError, InputError
from edgeseg.export import BuildRequest, _targets, build, tensorrt_graph
from edgeseg.export._exact import Exact
from edgeseg.export.capture import capture
from edgeseg.export.passes import activation_before_concat, fold_batchnorm, frame_io, simplify, unpool
from edgeseg.export.quantize.calibrate import calibrate
from edgeseg.export.quantize.equalize import channel_ranges, equalize
from edgeseg.export.quantize.qdq import quantize
from edgeseg.images import letterbox_frame
from edgeseg.manifest import Manifest, ModelEntry, Weights
from edgeseg.metrics import sqnr_db
from edgeseg.models import efficientdet
from edgeseg.models._reference import DetectionReference
from edgeseg.models._train import normalise
from edgeseg.overlay import NOTHING, draw_boxes, outlines
from edgeseg.runtimes import open_artifact
from edgeseg.runtimes._engine import Engine, _runtime
from edgeseg.spec import Anchors, ClassSpec, Detection, Preprocess, TensorSpec
from tests import tensorrt_contract
from tests.networks import Case, cases
from tests.targets import RUNNABLE

CLASSES = 11
OUTPUTS = ("class_logits", "box_deltas")


@pytest.mark.parametrize("frame", [(64, 64), (48, 64), (100, 50), (33, 200), (20, 16), (72, 72)])
def test_the_graph_letterboxes_as_the_reference_does(frame: tuple[int, int]) -> None:
    class Seen(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 1.0

    preprocess = Preprocess((64, 64), (127.0, 100.0, 90.0), (128.0, 64.0, 50.0), letterbox=True)
    graph = capture(Seen(), (64, 64))
    frame_io.apply_frame(graph, preprocess, frame)
    image = np.random.default_rng(0).integers(0, 256, (*frame, 3), np.uint8)
    got = Exact(graph).run(image[None])["logits"][0]
    want = DetectionReference(Seen(), preprocess)._input(image)[0].numpy()
    height, width = preprocess.fitted(frame)
    assert got.shape == (3, 64, 64) and 64 in (height, width)
    assert abs(height / width - frame[0] / frame[1]) < 1 / min(height, width)
    assert np.abs(got - want).max() < 1e-4
    assert not got[:, height:].any() and not got[:, :, width:].any() and got[:, : height - 1, : width - 1].any()
    boxed, scale = letterbox_frame(image, (64, 64), preprocess.mean)
    outside = (boxed.transpose(2, 0, 1) - np.reshape(preprocess.mean, (3, 1, 1))) / np.reshape(
        preprocess.std, (3, 1, 1)
    )
    assert np.abs(outside - got).max() < 0.51 / 50  # a byte's rounding
    assert np.allclose(scale, [width / frame[1], height / frame[0]] * 2)


def settled(case: Case) -> nn.Module:
    """The package's weights, or seeded ones with statistics taken layer by layer. A detector's coarsest maps have so
    few pixels that their variance alone would make later layers explode: the mean counts as well."""
    if case.trained:
        return models.load(case.name).module
    network = case.fresh(CLASSES).eval()

    def measure(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), unbiased=False)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance + mean.square())

    hooks = [m.register_forward_pre_hook(measure) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    data, preprocess = open_dataset("streets:4@256x256:train"), case.variant.preprocess((256, 256))
    with torch.no_grad():
        frames = torch.stack([torch.from_numpy(data[i].frame.transpose(2, 0, 1).copy()) for i in range(4)])
        network(normalise(frames, preprocess))
    for hook in hooks:
        hook.remove()
    return network


class Compiled:
    """A network, its graph, and what it says of a frame of another shape than its input."""

    def __init__(self, case: Case) -> None:
        self.case, self.frame = case, (case.size[0] + 8, case.size[1] + 40)
        self.preprocess = case.variant.preprocess(case.size)
        network = settled(case)
        self.graph = capture(network, case.size, outputs=OUTPUTS)
        for rewrite in (simplify, fold_batchnorm, activation_before_concat, unpool):
            rewrite.apply(self.graph)
        frame_io.apply_frame(self.graph, self.preprocess, self.frame)
        data = open_dataset(f"streets:4@{self.frame[0]}x{self.frame[1]}:val")
        self.frames = [data[i].frame for i in range(4)]
        self.raw = dict(zip(OUTPUTS, DetectionReference(network, self.preprocess).run(self.frames[0]), strict=True))
        self._balanced = equalize(self.graph, channel_ranges(self.graph, self.frames))
        self._calibration = calibrate(self._balanced, self.frames)
        self._quantized: dict[int, ir.Model] = {}

    def model(self, precision: str, levels: int) -> ir.Model:
        if precision != "int8":
            return self.graph
        if levels not in self._quantized:
            self._quantized[levels] = quantize(self._balanced, self._calibration, levels)
        return self._quantized[levels]

    def manifest(self, target: str, precision: str) -> Manifest:
        assert self.case.variant.anchors is not None
        return Manifest(
            model=ModelEntry("efficientdet", self.case.variant.name, "detection", 1, 0.1, "", Weights("random:1", "")),
            target=target, precision=precision, inputs=(TensorSpec("frame", (1, *self.frame, 3), "uint8"),),
            outputs=tuple(TensorSpec(k, (1, *v.shape), "float32") for k, v in self.raw.items()),
            preprocess=self.preprocess, classes=(), ignore_index=None, files={}, calibration=None, toolchain={},
            device=None, onnx_sha256="", created="",
            detection=Detection(self.case.variant.anchors, score_threshold=0.001),
        )  # fmt: skip


def lite() -> Case:
    (variant,) = (v for v in efficientdet.SPEC.variants if v.name == "lite0")
    return Case("efficientdet", variant)


@pytest.fixture(scope="module", params=[*cases("detection"), lite()], ids=str)
def compiled(request: pytest.FixtureRequest) -> Compiled:
    return Compiled(request.param)


LEAST_DB = {"fp32": 60, "fp16": 40, "int8": 15}  # int8: of the engine against its own quantized graph
UNTRAINED_DB = {**LEAST_DB, "fp16": 30, "int8": 8}  # nothing in untrained weights damps a rounding


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", RUNNABLE)
def test_every_target_sees_what_the_network_sees(compiled: Compiled, name: str, precision: str, tmp_path: Path) -> None:
    target: Any = _targets.load(name, precision)
    model = compiled.model(precision, target.weight_levels())
    target.compile(model, precision, tmp_path)
    manifest, frame = compiled.manifest(name, precision), compiled.frames[0]
    with Engine(manifest, _runtime(tmp_path, manifest, 2)) as engine:
        got, found = engine.run({"frame": frame[None]}), engine.detect(frame)
    want = Exact(model).run(frame[None]) if precision == "int8" else {k: v[None] for k, v in compiled.raw.items()}
    least = (LEAST_DB if compiled.case.trained else UNTRAINED_DB)[precision]
    for output in OUTPUTS:
        assert got[output].dtype == np.float32 and got[output].shape == want[output].shape
        assert sqnr_db(want[output], got[output]) >= least, output
    assert manifest.detection is not None
    again = Decoder(manifest.detection, manifest.preprocess, manifest.frame)(*(got[o][0] for o in OUTPUTS))
    assert found.count == again.count and (found.boxes == again.boxes).all()
    height, width = compiled.frame
    assert found.count and (found.boxes >= 0).all() and (found.boxes <= np.array([width, height] * 2)).all()


@pytest.mark.parametrize("generation", tensorrt_contract.GENERATIONS)
def test_every_generation_of_tensorrt_would_take_it(compiled: Compiled, generation: str) -> None:
    for precision in ("fp32", "int8"):
        tensorrt_contract.passes_the_preflight(compiled.model(precision, 127), precision, generation)


@tensorrt_contract.needs_rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_tensorrt_builds_it(compiled: Compiled, precision: str, tmp_path: Path) -> None:
    tensorrt_contract.builds(compiled.model(precision, 127), precision, tmp_path)


def test_in_half_precision_it_says_the_same(compiled: Compiled) -> None:
    form = tensorrt_graph.prepare(compiled.model("fp16", 127), "fp16", "rtx")
    got = Exact(form).run(compiled.frames[0][None])
    assert all(sqnr_db(want[None], got[output]) >= UNTRAINED_DB["fp16"] for output, want in compiled.raw.items())


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lite0 with weights that mean little, for frames of another size than its input."""
    folder = tmp_path_factory.mktemp("build")
    weights = {k: v.contiguous() for k, v in settled(lite()).state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    request = BuildRequest(
        model="efficientdet", weights=folder / "weights.safetensors", variant="lite0", size=(64, 96), frame=(80, 100),
        targets=("onnxruntime",), data="streets:2@80x100:val", out=folder,
    )  # fmt: skip
    (path,) = build(request)
    return path


def test_an_artifact_says_how_its_boxes_are_made(artifact: Path) -> None:
    manifest = load(artifact).manifest
    assert artifact.name == "efficientdet-lite0-80x100-onnxruntime-fp32"
    count = len(anchor_boxes(Anchors(), (64, 96)))
    forms = [(o.name, o.shape, o.dtype) for o in manifest.outputs]
    assert forms == [
        ("boxes", (1, 100, 4), "float32"), ("scores", (1, 100), "float32"), ("classes", (1, 100), "int32"),
        ("count", (1,), "int32"), ("class_logits", (1, count, CLASSES), "float32"),
        ("box_deltas", (1, count, 4), "float32"),
    ]  # fmt: skip
    assert manifest.model.task == "detection" and manifest.preprocess.letterbox
    detection = manifest.detection
    assert detection is not None and detection.nms == "graph" and detection.anchors.scale == 3.0
    document = json.loads(manifest.to_json())
    document["detection"]["sigma"] = 0.5  # of a later version
    read = Manifest.from_json(json.dumps(document))
    assert json.loads(read.to_json()) == document
    assert read.detection == replace(detection, extra={"sigma": 0.5})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("anchors", {}), ("anchors", None), ("nms", 3), ("score_threshold", "high"), ("score_threshold", 2),
        ("iou_threshold", float("nan")), ("max_detections", 0), ("max_detections", 10**9), ("max_detections", None),
    ],
)  # fmt: skip
def test_a_malformed_part_on_boxes_is_refused(artifact: Path, key: str, value: Any) -> None:
    document = json.loads((artifact / "manifest.json").read_text())
    document["detection"][key] = value
    with pytest.raises(ArtifactError, match="incomplete or malformed"):
        Manifest.from_json(json.dumps(document))


@pytest.mark.parametrize("change", [lambda m: replace(m, nms="plugin"), lambda m: None])
def test_boxes_made_in_an_unknown_way_are_refused(
    artifact: Path, change: Callable[[Detection | None], Detection | None]
) -> None:
    manifest = load(artifact).manifest
    with pytest.raises(ArtifactError, match="which is unknown here: update edgeseg or build again"):
        Engine(replace(manifest, detection=change(manifest.detection)), _runtime(artifact, manifest, 1))


def test_an_engine_detects_and_does_not_segment(artifact: Path) -> None:
    frame = open_dataset("streets:1@80x100:val")[0].frame
    with open_artifact(artifact) as engine:
        found = engine.detect(frame)
        assert found.boxes.shape == (100, 4) and found.boxes.dtype == np.float32
        assert found.scores.shape == found.classes.shape == (100,) and found.classes.dtype == np.int32
        assert (np.diff(found.scores[: found.count]) <= 0).all()
        with pytest.raises(InputError, match="this artifact's task is 'detection', not segmentation"):
            engine.segment(frame)
        with pytest.raises(InputError, match=r"a frame must be uint8 \[80, 100, 3\], got"):
            engine.detect(frame[1:])
        large = np.repeat(np.repeat(frame, 3, 0), 3, 1)
        again = engine.detect(large, resize=True)
        assert again.count and again.boxes.max() <= 300 and again.boxes.max() > 100


def test_a_check_gives_average_precision(artifact: Path) -> None:
    found = parity.check(artifact, open_dataset("streets:3@80x100:val"), show=1)
    figures = found.to_json()
    assert figures["metric"] == "map" and figures["images"] == 3 and figures["passed"] is True
    assert figures["reference"] == pytest.approx(figures["engine"], abs=0.1)
    assert figures["agreement"] == 1.0 and figures["sqnr_db"] > 60
    (shown,) = found.shown
    assert shown.truth is not None and shown.truth.shape == (80, 100) and len(np.unique(shown.truth)) > 1


def test_a_run_writes_boxes_and_overlays(artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(open_dataset("streets:1@160x120:val")[0].frame).save(tmp_path / "street.png")
    run(artifact, str(tmp_path / "street.png"), tmp_path / "out", show=False)
    assert capsys.readouterr().out == f"1 overlays and lists of boxes in {tmp_path / 'out'}\n"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["street-boxes.json", "street-overlay.png"]
    with Image.open(tmp_path / "out/street-overlay.png") as overlay:
        assert overlay.size == (120, 160)
    document = json.loads((tmp_path / "out/street-boxes.json").read_text())
    names = {c.name for c in load(artifact).manifest.classes}
    assert document["schema"] == 1 and document["objects"]
    for found in document["objects"]:
        x0, y0, x1, y1 = found["box"]
        assert found["class"] in names and 0 < found["score"] <= 1 and 0 <= x0 <= x1 <= 120 and 0 <= y0 <= y1 <= 160


def objects(boxes: list[list[float]], scores: list[float], classes: list[int]) -> Detections:
    kinds = np.array(classes, np.int32)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), kinds, len(scores))


def test_sure_objects_are_matched_by_class_and_overlap() -> None:
    wanted = objects(
        [[0, 0, 10, 10], [20, 0, 30, 10], [0, 20, 10, 30], [5, 5, 9, 9]], [0.9, 0.5, 0.3, 0.2], [0, 1, 2, 0]
    )
    got = objects([[0, 0, 10, 9.5], [20, 0, 30, 10], [0, 20, 10, 25]], [0.1, 0.8, 0.9], [0, 2, 2])
    assert matches(wanted, got).tolist() == [1, 3, 2]
    assert matches(wanted, wanted).tolist() == [3, 3, 3]


def test_outlines_and_overlays_are_drawn_in_their_classes_colors() -> None:
    boxes = np.array([[2, 3, 10, 9], [30, 30, 30.2, 30.4], [-5, -5, 60, 3]], np.float32)
    drawn = outlines(boxes, np.array([4, 0, 7], np.int32), (40, 50))
    assert drawn.shape == (40, 50) and set(np.unique(drawn)) == {0, 4, 7, NOTHING}
    assert (drawn[3, 2:10] == 4).all() and (drawn[8, 2:10] == 4).all() and drawn[5, 5] == NOTHING
    assert drawn[30, 30] == 0 and drawn[2, 20] == 7
    classes = tuple(ClassSpec(f"class {i}", (10 * i, 200, 50)) for i in range(8))
    frame = np.full((40, 50, 3), 90, np.uint8)
    found = objects([[20, 20, 40, 35], [2, 3, 10, 9]], [0.9, 0.2], [3, 1])
    overlay = draw_boxes(frame, found, classes)
    assert (overlay[34, 20:40] == classes[3].color).all() and (overlay[30, 2:10] == 90).all()
    assert (overlay[5] == 90).all()  # of too low a score
    assert (frame == 90).all()
