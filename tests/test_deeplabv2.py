"""DeepLabv2 against its paper and the ports of its authors' nets."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeseg.models import deeplab, deeplabv2
from edgeseg.models._backbones.resnet import Bottleneck

TORCHVISION_RESNET101, ITS_CLASSIFIER = 44_549_160, 2048 * 1000 + 1000  # documentation of torchvision's weights
STRIDES = {"layer2": (2, 1), "layer3": (1, 1), "layer4": (1, 1)}  # of the first block's 1×1 and 3×3
DILATIONS = {"layer2": 1, "layer3": 2, "layer4": 4}


def built(variant: str, classes: int = 21) -> nn.Module:
    with torch.device("meta"):
        return deeplabv2.build(classes, variant).eval()


NETWORKS = {variant: built(variant) for variant in ("resnet101", "vgg16")}


def test_size_is_the_trunks_and_four_branches() -> None:
    """The paper states none. ResNet-101 without its classifier, and DeepLab-LargeFOV with its head four times."""
    resnet, vgg = deeplabv2.SPEC.variants  # held to the networks by the models' contract
    assert resnet.parameters == TORCHVISION_RESNET101 - ITS_CLASSIFIER + 4 * (2048 * 9 + 1) * 21
    head = sum(k * o + o for k, o in ((512 * 9, 1024), (1024, 1024), (1024, 21)))
    assert vgg.parameters == deeplab.SPEC.variants[0].parameters + 3 * head


def test_rates_are_the_papers() -> None:
    wide = [m.dilation[0] for m in NETWORKS["vgg16"].modules() if isinstance(m, nn.Conv2d) and m.out_channels == 1024]
    assert wide[::2] == [6, 12, 18, 24] and wide[1::2] == [1] * 4
    last = [m for m in NETWORKS["resnet101"].modules() if isinstance(m, nn.Conv2d) and m.out_channels == 21]
    assert [(m.dilation[0], m.kernel_size[0]) for m in last] == [(6, 3), (12, 3), (18, 3), (24, 3)]


@pytest.mark.parametrize("stage", list(STRIDES))
def test_resnet_is_caffes(stage: str) -> None:
    """Output stride 8; the stride in the first 1×1 convolution; every block of a stage dilated alike."""
    blocks = [m for m in NETWORKS["resnet101"].get_submodule(stage).children() if isinstance(m, Bottleneck)]
    assert (blocks[0].conv1.stride[0], blocks[0].conv2.stride[0]) == STRIDES[stage]
    assert {block.conv2.dilation[0] for block in blocks} == {DILATIONS[stage]}


@torch.inference_mode()
def test_branches_are_summed() -> None:
    torch.manual_seed(0)
    pyramid, x = deeplabv2.Pyramid(8, 3), torch.randn(1, 8, 30, 40)
    each = [
        nn.functional.conv2d(x, branch.weight, branch.bias, padding=rate, dilation=rate)  # type: ignore[arg-type]
        for branch, rate in zip(pyramid.conv2d_list, (6, 12, 18, 24), strict=True)
    ]
    assert torch.allclose(pyramid(x), torch.stack(each).sum(0), atol=1e-5)


@torch.inference_mode()
def test_branches_of_vgg16_are_summed() -> None:
    torch.manual_seed(0)
    network, x = deeplabv2.build(3, "vgg16").eval(), torch.randn(1, 3, 17, 25) * 60
    whole = network(x)
    for i in range(1, 5):
        nn.init.zeros_(network.get_submodule(f"fc8_voc12_{i}").weight)  # type: ignore[arg-type]
        rest = network(x)
        assert (whole - rest).abs().max() > 1
        whole = rest
    assert not whole.any()


@pytest.mark.parametrize("variant", list(NETWORKS))
@pytest.mark.parametrize("size", [(1, 1), (24, 17), (321, 321)])
def test_every_frame_has_an_answer_of_its_size(variant: str, size: tuple[int, int]) -> None:
    assert NETWORKS[variant](torch.zeros(1, 3, *size, device="meta")).shape == (1, 21, *size)


def test_state_dicts_are_those_of_ports_and_authors() -> None:
    keys = NETWORKS["resnet101"].state_dict().keys()
    assert {k.split(".")[0] for k in keys} == {"conv1", "bn1", *(f"layer{i}" for i in range(1, 6))}
    assert {"layer3.22.conv2.weight", "layer4.0.downsample.1.bias", "layer5.conv2d_list.3.bias"} <= keys
    heads = {k.split(".")[0] for k in NETWORKS["vgg16"].state_dict() if not k.startswith("conv")}
    assert heads == {f"{layer}_{i}" for layer in ("fc6", "fc7", "fc8_voc12") for i in range(1, 5)}
    for variant in NETWORKS:
        assert deeplabv2.classes_of(built(variant, 7).state_dict()) == 7
    assert deeplabv2.classes_of({}) is None
