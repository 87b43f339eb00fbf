"""DeepLabv3 against its paper, torchvision, and TensorFlow's published weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgeseg import models
from edgeseg.errors import InputError
from edgeseg.models import _count, _weights, deeplabv3
from edgeseg.models._backbones.mobilenetv2 import mobilenetv2

CHECKPOINT = "weights/deeplabv3_max_image_segmenter_tfjs.npz"
IMAGES = ("000000000139", "000000000285")


def stated(variant: str):  # type: ignore[no-untyped-def]
    return next(v for v in deeplabv3.SPEC.variants if v.name == variant)


# Documentation of torchvision's weights: parameters, and 10⁹ multiply-adds at 520×520, the auxiliary head with them.
@pytest.mark.parametrize(
    ("variant", "parameters", "gmacs"),
    [("torchvision-resnet50", 42_004_074, 178.722), ("torchvision-resnet101", 60_996_202, 258.743)],
)
def test_size_is_torchvisions(variant: str, parameters: int, gmacs: float) -> None:
    found = stated(variant)  # held to the network by the models' contract
    auxiliary = 65 * 65 * (1024 * 256 * 9 + 256 * 21) / 1e9
    assert found.parameters == parameters
    assert found.gmacs + auxiliary == pytest.approx(gmacs, abs=2e-3)


def test_the_papers_has_one_convolution_less_and_no_auxiliary_head() -> None:
    between, auxiliary = 256 * 256 * 9 + 2 * 256, 1024 * 256 * 9 + 2 * 256 + 257 * 21
    for depth in ("resnet50", "resnet101"):
        difference = stated(f"torchvision-{depth}").parameters - stated(f"{depth}-os16").parameters
        assert difference == between + auxiliary


def test_mobilenetv2_costs_what_its_paper_says() -> None:
    """arXiv:1801.04381, table 7: MNet V2* without ASPP at output stride 16, 513×513: 2.11 M, 2.75 G. TensorFlow's
    model zoo has the same figure for the checkpoint, and none at output stride 8 without scales and flips."""
    assert stated("mobilenetv2-voc").parameters == pytest.approx(2.11e6, rel=2e-3)
    network = deeplabv3.build(21, "mobilenetv2-voc")
    network.backbone = mobilenetv2(16)
    assert _count.gmacs(network, (513, 513)) == pytest.approx(2.75, rel=5e-3)


@pytest.mark.parametrize(
    ("variant", "pyramid", "last"),
    [
        ("resnet101-os16", [6, 12, 18], [2, 4, 8]),
        ("resnet101-os8", [12, 24, 36], [4, 8, 16]),
        ("torchvision-resnet50", [12, 24, 36], [2, 4, 4]),
        ("mobilenetv2-voc", [], []),
    ],
)
def test_rates(variant: str, pyramid: list[int], last: list[int]) -> None:
    network = deeplabv3.build(3, variant, width=0.125)
    aspp = network.classifier[0]  # type: ignore[index]
    assert [b[0].dilation[0] for b in aspp.convs[1:-1]] == pyramid
    blocks = getattr(network.backbone, "layer4", [])
    assert [block.conv2.dilation[0] for block in blocks] == last


def test_state_dict_is_torchvisions() -> None:
    state = deeplabv3.build(4, "torchvision-resnet50", width=0.125).state_dict()
    heads = {k.rsplit(".", 1)[0] for k in state if not k.startswith("backbone.")}
    branches = {f"classifier.0.convs.{i}.{k}" for i in range(4) for k in (0, 1)}
    assert heads == {
        *branches,
        "classifier.0.convs.4.1",
        "classifier.0.convs.4.2",
        "classifier.0.project.0",
        "classifier.0.project.1",
        "classifier.1",
        "classifier.2",
        "classifier.4",
        "aux_classifier.0",
        "aux_classifier.1",
        "aux_classifier.4",
    }
    assert deeplabv3.classes_of(state) == 4 and deeplabv3.classes_of({"classifier.4.bias": torch.zeros(4)}) is None


def test_checkpoint_may_lack_the_auxiliary_head_and_nothing_else() -> None:
    network = deeplabv3.build(4, "torchvision-resnet50", width=0.125)
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("aux_")}
    _weights.fill(network, state, "DeepLabv3", Path("weights.pth"))
    del state["classifier.2.bias"]
    with pytest.raises(InputError, match=r"1 missing: classifier\.2\.bias"):
        _weights.fill(network, state, "DeepLabv3", Path("weights.pth"))


@pytest.mark.parametrize("variant", [v.name for v in deeplabv3.SPEC.variants])
@pytest.mark.parametrize("size", [(1, 1), (33, 50)])
def test_any_size_gives_logits_of_that_size(variant: str, size: tuple[int, int]) -> None:
    network = deeplabv3.build(3, variant, width=0.125)
    with torch.inference_mode():
        assert network.eval()(torch.rand(1, 3, *size)).shape == (1, 3, *size)
    trained = network.train()(torch.rand(2, 3, *size))
    shapes = [tuple(t.shape) for t in (trained if isinstance(trained, tuple) else (trained,))]
    assert shapes == [(2, 3, *size)] * (2 if "torchvision" in variant else 1)


def test_published_weights_give_their_golden_logits(data_folder) -> None:  # type: ignore[no-untyped-def]
    network = models.load("deeplabv3", data_folder / CHECKPOINT)
    assert (network.variant.name, network.classes) == ("mobilenetv2-voc", 21)
    assert isinstance(network.module, deeplabv3.DeepLabv3)
    golden = np.load(data_folder / "golden/deeplabv3_mnv2_pascal_trainval_tfjs.npz")
    for image in IMAGES:
        x = torch.from_numpy(golden[f"{image}.input_u8"]).permute(2, 0, 1)[None].float()
        x = (x - torch.tensor(network.variant.mean).view(3, 1, 1)) / torch.tensor(network.variant.std).view(3, 1, 1)
        with torch.inference_mode():
            coarse = network.module.classifier(network.module.backbone(x)[-1])[0].permute(1, 2, 0).numpy()
            labels = network.module(x)[0].argmax(0).numpy()
        assert np.abs(coarse - golden[f"{image}.logits_65x65x21_nhwc"]).max() <= 1e-3
        assert (labels == golden[f"{image}.argmax"]).all()


def test_imported_batch_norms_change_nothing_but_the_offset(data_folder) -> None:  # type: ignore[no-untyped-def]
    module = models.load("deeplabv3", data_folder / CHECKPOINT).module
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        assert norm.running_mean is not None and norm.running_var is not None
        assert torch.all(norm.running_mean == 0)
        assert torch.all((norm.running_var + norm.eps - 1).abs() < 1e-6)


def test_other_arrays_are_refused_in_one_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", kernel=np.zeros((3, 3), np.float32))
    np.savez(tmp_path / "text.npz", names=np.array(["a", "b"]))
    np.savez(tmp_path / "objects.npz", objects=np.array([{}], dtype=object))
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 damaged")
    for name, message in (
        ("other", "unknown: kernel"),
        ("text", "safely"),
        ("objects", "safely"),
        ("damaged", "safely"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            models.load("deeplabv3", tmp_path / f"{name}.npz", "mobilenetv2-voc")
        assert "\n" not in str(caught.value)
