"""EfficientDet against its paper and the published checkpoint."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import nn

from edgeseg import models
from edgeseg.average_precision import Truth, average_precision
from edgeseg.boxes import Decoder, anchor_boxes
from edgeseg.datasets import open_dataset
from edgeseg.export.capture import capture
from edgeseg.export.passes import simplify
from edgeseg.images import letterbox_frame
from edgeseg.models import efficientdet
from edgeseg.models._backbones.efficientnet import Conv2dSame
from edgeseg.models._bifpn import Combine, halve, nodes
from edgeseg.models._reference import DetectionReference
from edgeseg.spec import Detection

VARIANTS = {v.name: v for v in efficientdet.SPEC.variants}
# github.com/google/automl, efficientdet/README.md: 10⁶ parameters and 10⁹ "FLOPs", by which it means multiply-adds
# (the paper's footnote 1), at each one's own input size. It says 130 for D5, the paper's table 2 says 135.
PUBLISHED = {
    "d0": (3.9, 2.54), "d1": (6.6, 6.10), "d2": (8.1, 11.0), "d3": (12.0, 24.9), "d4": (20.7, 55.2), "d5": (33.7, 135),
    "d6": (51.9, 226), "d7": (51.9, 325), "d7x": (77.0, 410),
}  # fmt: skip
LITE_PARAMETERS = {"lite0": 3.24, "lite1": 4.25, "lite2": 5.25, "lite3": 8.35, "lite4": 15.1}  # effdet's README
CLASSES = 11
OUTPUTS = ("class_logits", "box_deltas")


@pytest.mark.parametrize("name", PUBLISHED)
def test_size_is_the_papers(name: str) -> None:
    parameters, multiply_adds = PUBLISHED[name]  # the variant's own figures are held to the network elsewhere
    assert round(VARIANTS[name].parameters / 1e6, 1) == pytest.approx(parameters, abs=0.11)
    assert 0.97 < VARIANTS[name].gmacs / multiply_adds <= 1.0  # they count more than convolutions


@pytest.mark.parametrize("name", LITE_PARAMETERS)
def test_size_of_the_lite_family(name: str) -> None:
    assert VARIANTS[name].parameters / 1e6 == pytest.approx(LITE_PARAMETERS[name], rel=0.005)


@pytest.mark.parametrize("name", ["d0", "d7x", "lite0"])
@pytest.mark.parametrize("size", [(64, 96), (96, 160)])
def test_an_answer_for_every_anchor(name: str, size: tuple[int, int]) -> None:
    network = efficientdet.build(7, name, width=0.125).eval()
    with torch.inference_mode():
        logits, deltas = network(torch.rand(2, 3, *size))
    anchors = VARIANTS[name].anchors
    assert anchors is not None
    count = len(anchor_boxes(anchors, size))
    assert logits.shape == (2, count, 7) and deltas.shape == (2, count, 4)
    assert logits.isfinite().all() and deltas.isfinite().all()
    assert torch.sigmoid(logits).mean() < 0.1  # fresh weights see few objects


def test_trains() -> None:
    network = efficientdet.build(5, "d0", width=0.125).train()
    logits, deltas = network(torch.rand(2, 3, 64, 64))
    (logits.square().mean() + deltas.square().mean()).backward()
    assert [k for k, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("length", [5, 6, 7, 8])
@pytest.mark.parametrize("kernel", [3, 5])
def test_padding_is_tensorflows(length: int, kernel: int) -> None:
    """⌈n / 2⌉ outputs; the odd one of the padded pixels stands at the end."""
    conv = Conv2dSame(1, 1, kernel, 2)
    nn.init.ones_(conv.weight)
    place = torch.arange(length * length, dtype=torch.float32).reshape(1, 1, length, length)
    out = -(-length // 2)
    before = max((out - 1) * 2 + kernel - length, 0) // 2
    for maximum, found in ((False, conv(place)), (True, halve(place))):
        if maximum and kernel == 5:
            continue
        assert found.shape == (1, 1, out, out)
        for i in range(out):
            low, high = max(2 * i - before, 0), min(2 * i - before + kernel, length)
            window = place[0, 0, low:high, low:high]
            assert found[0, 0, i, i].item() == (window.max() if maximum else window.sum())


def test_nodes_are_figure_2d() -> None:
    assert nodes(3) == [(1, (1, 2)), (0, (0, 3)), (1, (1, 3, 4)), (2, (2, 5))]
    assert len(nodes(5)) == 8 and nodes(5)[5] == (2, (2, 6, 9))


def test_fusion_is_fast_and_normalized() -> None:
    mix = Combine((0, 1), (4, 4), 4, weighted=True).eval()
    assert mix.edge_weights is not None
    with torch.no_grad():
        mix.edge_weights.copy_(torch.tensor([3.0, -1.0]))
        maps = [torch.rand(1, 4, 8, 8), torch.rand(1, 4, 4, 4)]
        assert torch.allclose(mix(maps, (8, 8)), 3 * maps[0] / (3 + 1e-4), atol=1e-6)
        mix.edge_weights.copy_(torch.tensor([1.0, 3.0]))
        up = maps[1].repeat_interleave(2, 2).repeat_interleave(2, 3)
        assert torch.allclose(mix(maps, (8, 8)), (maps[0] + 3 * up) / (4 + 1e-4), atol=1e-6)


def test_checkpoints_of_d7_load_as_the_same_network_of_d6() -> None:
    """They differ in size and anchors alone, which a state dict does not hold."""
    keys = [set(efficientdet.build(3, name, width=0.125).state_dict()) for name in ("d6", "d7")]
    assert keys[0] == keys[1]
    assert VARIANTS["d6"].anchors != VARIANTS["d7"].anchors


# The published Lite0


@pytest.fixture(scope="module")
def lite0(data_folder) -> models.Network:  # type: ignore[no-untyped-def]
    return models.load("efficientdet", data_folder / "weights/efficientdet_lite0_coco_int8.dequant.npz", "lite0")


def test_published_weights_give_their_golden_outputs(data_folder, lite0) -> None:  # type: ignore[no-untyped-def]
    assert (lite0.variant.name, lite0.classes) == ("lite0", 90)
    golden = np.load(data_folder / "golden/efficientdet_lite0_float_dequant.npz")
    reference = DetectionReference(lite0.module, lite0.variant.preprocess((320, 320)))
    for image in ("139", "285"):
        logits, deltas = reference.run(golden[f"{image}.input_u8"])
        assert np.abs(deltas - golden[f"{image}.boxes"]).max() <= 1e-3
        assert np.abs(logits[::8] - golden[f"{image}.class_logits_every_8th_anchor"]).max() <= 1e-3


@pytest.mark.slow
def test_published_weights_score_on_the_coco_sample(data_folder, lite0) -> None:  # type: ignore[no-untyped-def]
    dataset = open_dataset(f"coco:{data_folder / 'coco_sample'}")
    assert len(dataset) == 177
    preprocess, anchors = lite0.variant.preprocess((320, 320)), lite0.variant.anchors
    reference, decoder = (
        DetectionReference(lite0.module, preprocess),
        Decoder(Detection(anchors), preprocess, (320, 320)),
    )
    truths, found = [], []
    for i in range(len(dataset)):
        sample = dataset[i]
        assert sample.boxes is not None and sample.box_classes is not None and sample.crowd is not None
        frame, scale = letterbox_frame(sample.frame, (320, 320), preprocess.mean)
        truths.append(Truth(sample.boxes * scale, sample.box_classes, sample.crowd))
        found.append(decoder(*reference.run(frame)))
    assert average_precision(truths, found, 90)[0] == pytest.approx(33.0, abs=0.3)


def test_fusion_weights_are_constants_of_the_graph() -> None:
    network = efficientdet.build(3, "d0", width=0.125)
    graph = capture(network, (64, 64), outputs=OUTPUTS)
    simplify.apply(graph)
    kinds = {n.op_type for n in graph.graph}
    assert kinds <= {
        "Conv", "Sigmoid", "Mul", "Add", "MaxPool", "Resize", "ReduceMean", "Concat", "Transpose", "Reshape",
        "BatchNormalization",
    }  # fmt: skip
    assert not any(n.op_type == "Pad" for n in graph.graph)  # SAME padding is the convolutions' own
    x = torch.rand(1, 3, 64, 64)
    session = ort.InferenceSession(ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        want = network.eval()(x)
    for a, b in zip(session.run(None, {"x": x.numpy()}), want, strict=True):
        assert np.allclose(a, b.numpy(), atol=1e-4)
