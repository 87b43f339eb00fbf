"""LiteSeg: a novel lightweight ConvNet for semantic segmentation (arXiv:1912.06683).

A backbone, a deeper atrous spatial pyramid (DASPP: each dilated convolution is followed by another) whose input joins
its output (the short residual), and an early map of the backbone that joins the upsampled result (the long residual).
Where the paper is silent the authors' code (github.com/tahaemara/LiteSeg, commit 11399a5) decides. Variants are the
backbones: ``mobilenetv2`` at output stride 32, ``shufflenet`` at 32, ``darknet19`` at 16.

The head's modules carry the authors' names. Their checkpoints load: the names of the backbones are changed, and the
ImageNet classifiers that two of them still have, though nothing calls them, are left out. The published parameters (the
authors' README: 4.38 M, 3.51 M, 20.55 M) count those classifiers. The published GFLOPs (4.9, 2.75, 103.09; no size is
stated there) are those of 512×1024, which their code counts with 2k² - 1 operations for k² multiply-adds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from edgeseg.models._backbones.darknet19 import Darknet19
from edgeseg.models._backbones.mobilenetv2 import MobileNetV2, mobilenetv2
from edgeseg.models._backbones.shufflenet import ShuffleNet
from edgeseg.spec import ModelSpec, Variant

WIDTH = 96  # channels of every layer of the head
RATES = (1, 3, 6, 9)


def _variant(name: str, parameters: int, gmacs: float, published: str) -> Variant:
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's
    return Variant(name, "arXiv:1912.06683", (512, 1024), 19, parameters, gmacs, mean, std, published=published)


SPEC = ModelSpec(
    name="liteseg",
    title="LiteSeg",
    task="semantic",
    stride=1,
    variants=(
        _variant("mobilenetv2", 3_101_707, 4.305, "Cityscapes test 67.8 mIoU (paper)"),
        _variant("shufflenet", 1_971_451, 2.245, "Cityscapes test 65.2 mIoU (paper)"),
        _variant("darknet19", 20_545_459, 57.130, "Cityscapes test 70.8 mIoU (paper)"),
    ),
)


@dataclass(frozen=True)
class _Form:
    """What sets a variant apart: ``early`` is the index of the backbone's map that joins late, reduced to ``reduced``
    channels; ``expanded`` the channels of one more 1×1 convolution behind the backbone."""

    backbone: Callable[[], MobileNetV2 | ShuffleNet | Darknet19]
    early: int
    reduced: int | None = None
    expanded: int | None = None


FORMS = {
    "mobilenetv2": _Form(mobilenetv2, 0, expanded=1280),
    "shufflenet": _Form(ShuffleNet, 1, reduced=48),
    "darknet19": _Form(Darknet19, 0, reduced=32),
}


def build(classes: int, variant: str = "mobilenetv2") -> LiteSeg:
    """LiteSeg with ``classes`` output channels and fresh weights."""
    return LiteSeg(classes, FORMS[variant])


def classes_of(state: Mapping[str, Tensor]) -> int | None:
    """Number of classes that a state dict of this network was trained for, if it is one."""
    weight = state.get("last_conv.6.weight")
    return None if weight is None else int(weight.shape[0])


# The authors' names of the backbones, and of the layers of MobileNetV2's blocks, against torchvision's.
PREFIXES = {
    "mobile_features.features.18.": "expand.",
    "mobile_features.": "backbone.",
    "shuffle_features.module.": "backbone.",
    "resnet_features.": "backbone.",
}
UNUSED = ("mobile_features.classifier.", "shuffle_features.module.fc.")
BLOCK = re.compile(r"mobile_features\.features\.(\d+)\.conv\.(\d)\.(\w+)")
FIRST = {"0": "0.0", "1": "0.1", "3": "1", "4": "2"}
OTHERS = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2", "7": "3"}


def import_state(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The state dict of a checkpoint with the authors' names; others as they are."""
    return {_ours(key): value for key, value in state.items() if not key.startswith(UNUSED)}


def _ours(key: str) -> str:
    if found := BLOCK.fullmatch(key):
        block, layer, tensor = found.groups()
        return f"backbone.features.{block}.conv.{(FIRST if block == '1' else OTHERS)[layer]}.{tensor}"
    theirs = next((p for p in PREFIXES if key.startswith(p)), "")
    return PREFIXES.get(theirs, "") + key.removeprefix(theirs)


class Separable(nn.Module):
    """Depthwise ``kernel``×``kernel`` → 1×1, nothing between; the map keeps its size."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        padding = kernel // 2 * dilation
        self.conv1 = nn.Conv2d(inputs, inputs, kernel, 1, padding, dilation, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise(self.conv1(x))
        return out


class Branch(nn.Module):
    """A branch of DASPP: a convolution of dilation ``rate`` and a 3×3 one, both separable; at rate 1 only a 1×1
    one, not rectified."""

    def __init__(self, inputs: int, rate: int) -> None:
        super().__init__()
        self.atrous_convolution = Separable(inputs, WIDTH, 1 if rate == 1 else 3, rate)
        self.bn = nn.BatchNorm2d(WIDTH)
        self._deeper = rate != 1
        if self._deeper:
            self.conv1, self.bn1 = Separable(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.atrous_convolution(x))
        return torch.relu(self.bn1(self.conv1(y))) if self._deeper else y


class ImagePooling(nn.Module):
    """The image's mean → 1×1 convolution → spread over the map. Numbers 0 and 3 are the authors' pooling and ReLU."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.add_module("1", nn.Conv2d(inputs, WIDTH, 1, bias=False))
        self.add_module("2", nn.BatchNorm2d(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        y = x.mean((2, 3), keepdim=True)
        for layer in self.children():
            y = layer(y)
        return interpolate(torch.relu(y), x.shape[2:])


class LiteSeg(nn.Module):
    """N×3×H×W float32 (RGB, normalised; any H and W of at least 16) → logits N×classes×H×W float32."""

    def __init__(self, classes: int, form: _Form) -> None:
        super().__init__()
        self.backbone = form.backbone()
        self._early = form.early
        early, deep = self.backbone.channels[form.early], self.backbone.channels[-1]
        self.expand = nn.Sequential()
        if form.expanded:
            self.expand.extend([nn.Conv2d(deep, form.expanded, 1, bias=False), nn.BatchNorm2d(form.expanded)])
            self.expand.append(nn.ReLU6())
            deep = form.expanded
        for number, rate in enumerate(RATES, start=1):
            self.add_module(f"aspp{number}", Branch(deep, rate))
        self.global_avg_pool = ImagePooling(deep)
        self.conv1, self.bn1 = Separable(deep + (len(RATES) + 1) * WIDTH, WIDTH, 1), nn.BatchNorm2d(WIDTH)
        self.conv2, self.bn2 = None, None
        if form.reduced:
            self.conv2, self.bn2 = Separable(early, form.reduced, 1), nn.BatchNorm2d(form.reduced)
        self.last_conv = _last(WIDTH + (form.reduced or early), classes)
        for part in (m for name, m in self.named_modules() if not name.startswith("backbone")):
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.backbone(x)
        early, deep = maps[self._early], self.expand(maps[-1])
        y = torch.relu(self.bn1(self.conv1(self._pyramid(deep))))
        if self.conv2 is not None and self.bn2 is not None:
            early = torch.relu(self.bn2(self.conv2(early)))
        y = self.last_conv(torch.cat((_upsampled(y, early), early), 1))
        return _upsampled(y, x)

    def _pyramid(self, x: Tensor) -> Tensor:
        branches = [self.get_submodule(f"aspp{i + 1}")(x) for i in range(len(RATES))]
        return torch.cat((x, *branches, self.global_avg_pool(x)), 1)


def _last(inputs: int, classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, WIDTH):
        layers += [Separable(channels, WIDTH, 3), nn.BatchNorm2d(WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(WIDTH, classes, 1))


def _upsampled(x: Tensor, like: Tensor) -> Tensor:
    return interpolate(x, like.shape[2:], mode="bilinear", align_corners=True)
