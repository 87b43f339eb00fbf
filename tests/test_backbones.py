"""The trunks against the collections whose names they carry, and dilation against striding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeseg.models import _count
from edgeseg.models._backbones.mobilenetv2 import divisible, mobilenetv2
from edgeseg.models._backbones.resnet import resnet

# What classification adds behind the trunks: ResNet's fc; MobileNetV2's last 1×1 convolution with its batch
# normalisation, and its classifier.
FC = 2048 * 1000 + 1000


def tail(width: float) -> int:
    channels = mobilenetv2(width=width).channels[-1]
    return channels * 1280 + 2 * 1280 + 1280 * 1000 + 1000


# Parameters and 10⁹ multiply-adds at 224×224 with the classifier: torchvision's documentation of its weights.
@pytest.mark.parametrize(("depth", "parameters", "gmacs"), [(50, 25_557_032, 4.089), (101, 44_549_160, 7.801)])
def test_resnet_costs_what_torchvision_says(depth: int, parameters: int, gmacs: float) -> None:
    with torch.device("meta"):
        trunk = resnet(depth)
    assert _count.parameters(trunk) + FC == parameters
    assert _count.gmacs(trunk, (224, 224)) + FC / 1e9 == pytest.approx(gmacs, abs=2e-3)


# 1.0: torchvision; 0.5: the authors' table (github.com/tensorflow/models, slim/nets/mobilenet) states 1.95 M and 97 M.
@pytest.mark.parametrize(
    ("width", "parameters", "gmacs"), [(1.0, 3_504_872, 0.301), pytest.param(0.5, 1_968_680, 0.097)]
)
def test_mobilenetv2_costs_what_is_published(width: float, parameters: int, gmacs: float) -> None:
    trunk = mobilenetv2(width=width)
    assert _count.parameters(trunk) + tail(width) == parameters
    behind = (trunk.channels[-1] * 1280 * 7 * 7 + 1280 * 1000) / 1e9
    assert _count.gmacs(trunk, (224, 224)) + behind == pytest.approx(gmacs, abs=1e-3)


def test_state_dicts_are_torchvisions() -> None:
    resnet_names = list(resnet(50, width=0.125).state_dict())
    assert len(resnet_names) == 318  # torchvision's resnet50 has fc.weight and fc.bias too
    assert {"conv1.weight", "bn1.num_batches_tracked", "layer1.0.downsample.1.weight", "layer4.2.bn3.bias"} <= set(
        resnet_names
    )
    mobile_names = list(mobilenetv2(width=0.5).state_dict())
    assert len(mobile_names) == 306  # torchvision's mobilenet_v2 has features.18 and classifier.1 too
    assert {"features.0.1.weight", "features.1.conv.2.bias", "features.17.conv.3.running_var"} <= set(mobile_names)


def test_deep_stem_is_three_convolutions() -> None:
    trunk = resnet(50, 8, deep_stem=True)
    kinds = [type(layer).__name__ for layer in trunk.stem()]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"] * 3 + ["MaxPool2d"]
    assert [c.out_channels for c in trunk.stem() if isinstance(c, nn.Conv2d)] == [64, 64, 128]


@pytest.mark.parametrize("output_stride", [32, 16, 8])
@pytest.mark.parametrize("make", [lambda s: resnet(50, s, 0.125), lambda s: mobilenetv2(s, 0.5)])
@pytest.mark.parametrize("size", [(64, 96), (65, 41)])
def test_maps_have_their_strides(make, output_stride: int, size: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    trunk = make(output_stride).eval()
    with torch.inference_mode():
        maps = trunk(torch.rand(1, 3, *size))
    strides = [min(s, output_stride) for s in (4, 8, 16, 32)]
    assert [tuple(m.shape[1:]) for m in maps] == [
        (channels, *(-(-length // s) for length in size)) for channels, s in zip(trunk.channels, strides, strict=True)
    ]


@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize("make", [lambda s: resnet(50, s, 0.125), lambda s: mobilenetv2(s, 0.5)])
def test_dilation_computes_the_strided_map_and_what_lies_between(make, output_stride: int) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    strided, dilated = make(32).eval(), make(output_stride).eval()
    dilated.load_state_dict(strided.state_dict())
    x = torch.randn(1, 3, 75, 66)
    with torch.inference_mode():
        want, dense = strided(x)[-1], dilated(x)[-1]
    step = 32 // output_stride
    assert torch.allclose(dense[..., ::step, ::step], want, atol=1e-5)


def test_dilated_entry_and_grid() -> None:
    def dilations(**how: object) -> list[list[int]]:
        trunk = resnet(50, 8, 0.125, **how)  # type: ignore[arg-type]
        return [[block.conv2.dilation[0] for block in stage] for stage in (trunk.layer3, trunk.layer4)]  # type: ignore[union-attr]

    assert dilations() == [[1] + [2] * 5, [2, 4, 4]]
    assert dilations(dilated_entry=True) == [[2] * 6, [4, 4, 4]]
    assert dilations(dilated_entry=True, grid=(1, 2, 4)) == [[2] * 6, [4, 8, 16]]


@pytest.mark.parametrize("make", [lambda: resnet(101, 8), lambda: resnet(101, 8, deep_stem=True), mobilenetv2])
def test_fresh_weights_keep_the_scale(make) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    trunk = make().eval()
    with torch.inference_mode():
        last = trunk(torch.randn(1, 3, 33, 33))[-1]
    assert 0.02 < last.std() < 10 and last.abs().max() < 100


def test_widths_are_multiples_of_eight_not_far_below() -> None:
    assert [divisible(c) for c in (8, 12, 16.5, 28, 3, 24 * 1.4)] == [8, 16, 16, 32, 8, 32]
