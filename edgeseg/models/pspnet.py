"""PSPNet: pyramid scene parsing network (arXiv:1612.01105).

The modules carry the names of the first author's github.com/hszhao/semseg (``layer0`` … ``layer4``, ``ppm``, ``cls``,
``aux``), so that its checkpoints load. The pyramid is pooled statically, at any size: see ``adaptive_average``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from edgeseg.models._layers import conv_bn_relu
from edgeseg.models._semseg import MEAN, STD, Semseg
from edgeseg.spec import ModelSpec, Variant

PAPER = "arXiv:1612.01105"
BINS = (1, 2, 3, 6)

SPEC = ModelSpec(
    name="pspnet",
    title="PSPNet",
    task="semantic",
    stride=1,
    variants=(
        Variant(
            name="resnet50",
            paper=PAPER,
            size=(473, 473),
            classes=150,
            parameters=49_180_908,
            gmacs=161.875,
            mean=MEAN,
            std=STD,
            published="ADE20K val 41.7 mIoU, one scale (paper)",
        ),
        Variant(
            name="resnet101",
            paper=PAPER,
            size=(473, 473),
            classes=21,
            parameters=68_073_706,
            gmacs=229.821,
            mean=MEAN,
            std=STD,
            published="VOC 2012 test 82.6 mIoU, Cityscapes test 78.4 mIoU (paper)",
        ),
    ),
)

DEPTHS = {"resnet50": 50, "resnet101": 101}


def build(classes: int, variant: str = "resnet50", width: float = 1.0) -> PSPNet:
    """PSPNet with ``classes`` output channels and fresh weights; ``width`` scales all other channels."""
    return PSPNet(DEPTHS[variant], classes, width)


def classes_of(state: Mapping[str, Tensor]) -> int | None:
    """Number of classes that a state dict of this network was trained for, if it is one."""
    return len(state["cls.4.bias"]) if {"cls.4.bias", "ppm.features.0.1.weight"} <= set(state) else None


def adaptive_average(x: Tensor, bins: int) -> Tensor:
    """N×C×H×W → N×C×bins×bins, as nn.AdaptiveAvgPool2d: windows from ⌊i·H/bins⌋ to ⌈(i+1)·H/bins⌉, which overlap
    where the size does not divide.

    Windows are rectangles, so the two axes are pooled one after the other. Along an axis whose windows are of one
    size and step (all that divide, and more: 45 into 2) that is a plain average pooling; else a slice and a mean for
    each window. Nothing depends on anything but the size, so any engine has these operators.
    """
    if bins == 1:
        return x.mean((2, 3), keepdim=True)
    even = [_even(length, bins) for length in x.shape[2:]]
    if any(even):
        kernels, strides = zip(*(found or (1, 1) for found in even), strict=True)
        x = avg_pool2d(x, kernels, strides)
    for axis, found in zip((2, 3), even, strict=True):
        if not found:
            windows = _windows(x.shape[axis], bins)
            x = torch.cat([x.narrow(axis, a, b - a).mean(axis, keepdim=True) for a, b in windows], axis)
    return x


def _windows(length: int, bins: int) -> list[tuple[int, int]]:
    return [(i * length // bins, -(-(i + 1) * length // bins)) for i in range(bins)]


def _even(length: int, bins: int) -> tuple[int, int] | None:
    """(Size, step) of the windows where all have the same, and a pooling with them ends where they do."""
    windows = _windows(length, bins)
    size, step = windows[0][1], windows[1][0]
    same = step > 0 and windows == [(i * step, i * step + size) for i in range(bins)]
    return (size, step) if same else None


class AdaptiveAverage(nn.Module):
    """``adaptive_average`` as a layer."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self._bins = bins

    def forward(self, x: Tensor) -> Tensor:
        return adaptive_average(x, self._bins)


class PyramidPooling(nn.Module):
    """The map beside its averages over 1, 4, 9 and 36 regions, each reduced to a quarter of the channels and spread
    over the map again (section 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        reduced = channels // len(BINS)
        levels = [nn.Sequential(AdaptiveAverage(b), *conv_bn_relu(channels, reduced, 1)) for b in BINS]
        self.features = nn.ModuleList(levels)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        spread = [interpolate(f(x), size, mode="bilinear", align_corners=True) for f in self.features]
        return torch.cat((x, *spread), 1)


class PSPNet(Semseg):
    """Pyramid pooling behind a dilated ResNet (figure 3); inputs and outputs as ``Semseg`` says."""

    def __init__(self, depth: int, classes: int, width: float) -> None:
        super().__init__(depth, classes, width)
        self.ppm = PyramidPooling(self.channels)

    def context(self, x: Tensor) -> Tensor:
        out: Tensor = self.ppm(x)
        return out
