"""PSANet: point-wise spatial attention network for scene parsing (ECCV 2018).

Every position predicts how it relates to every other: in the collect branch how much it wants of what stands there, in
the distribute branch how much of its own it sends there. The predictions are *over-completed*: a map of channels, one
for each offset (Δy, Δx) that can occur, (2H-1)·(2W-1) of them at H×W positions.

The number of those channels is part of the weights. ``build`` takes it from the variant, whose name ends in the input
size that the weights were trained at: 465 → a map of 59×59, halved to 30×30 inside the branches → 59·59 channels;
709 → 89×89, 45×45 → 89·89. At other input sizes the network is the same: offsets that cannot occur are left out, and
those that were never predicted count as zero before the softmax, as the mask operator of the original has it.

The modules carry the names of the first author's github.com/hszhao/semseg (``layer0`` … ``layer4``, ``psa``, ``cls``,
``aux``), so that its checkpoints load. Multiply-accumulates are those of convolutions; the attention's own two products
are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from edgeseg.models._layers import conv_bn_relu
from edgeseg.models._semseg import MEAN, STD, Semseg
from edgeseg.spec import ModelSpec, Variant

PAPER = "ECCV 2018, PSANet: Point-wise Spatial Attention Network for Scene Parsing"
SHRINK = 2

SPEC = ModelSpec(
    name="psanet",
    title="PSANet",
    task="semantic",
    stride=1,
    variants=(
        Variant(
            name="resnet50-465",
            paper=PAPER,
            size=(465, 465),
            classes=150,
            parameters=53_273_836,
            gmacs=169.337,
            mean=MEAN,
            std=STD,
            published="ADE20K val 42.3 mIoU, one scale (semseg)",
        ),
        Variant(
            name="resnet101-465",
            paper=PAPER,
            size=(465, 465),
            classes=21,
            parameters=72_166_634,
            gmacs=235.037,
            mean=MEAN,
            std=STD,
            published="VOC 2012 test 85.7 mIoU (paper); val 78.7, one scale (semseg)",
        ),
        Variant(
            name="resnet101-709",
            paper=PAPER,
            size=(709, 709),
            classes=19,
            parameters=76_711_654,
            gmacs=544.305,
            mean=MEAN,
            std=STD,
            published="Cityscapes test 80.1 mIoU (paper); val 78.4, one scale (semseg)",
        ),
    ),
)

FORMS = {"resnet50-465": (50, 59), "resnet101-465": (101, 59), "resnet101-709": (101, 89)}  # depth, side of the mask


def build(classes: int, variant: str = "resnet50-465", width: float = 1.0) -> PSANet:
    """PSANet with ``classes`` output channels and fresh weights; ``width`` scales all channels but the masks'."""
    depth, mask = FORMS[variant]
    return PSANet(depth, mask, classes, width)


def classes_of(state: Mapping[str, Tensor]) -> int | None:
    """Number of classes that a state dict of this network was trained for, if it is one."""
    return len(state["cls.4.bias"]) if {"cls.4.bias", "psa.proj.0.weight"} <= set(state) else None


def relations(masks: Tensor, side: int) -> Tensor:
    """N×side²×H×W, at each position a value for each offset, row-major from (-⌊side/2⌋, -⌊side/2⌋) → N×HW×HW: what
    position i (row) says of position j (column), zero where their offset was not predicted.

    Along one axis, position x and offset x' - x become position x and position x' by moving row x of the table by x.
    In memory a row is moved against the one before by reading rows one element shorter: two reshapes and two slices.
    """
    n, _, h, w = masks.shape
    rows, columns = 2 * h - 1, 2 * w - 1
    table = _offsets(masks.reshape(n, side, side, h * w), rows, columns)
    table = table.reshape(n, rows * columns, h, w).permute(0, 2, 1, 3)
    table = _skew(table.reshape(n, h, rows, columns * w))
    table = table.reshape(n * h * h, columns, w).permute(0, 2, 1)
    table = _skew(table.reshape(n * h * h, w, columns, 1))
    return table.reshape(n * h, h, w, w).permute(0, 2, 1, 3).reshape(n, h * w, h * w)


def _offsets(table: Tensor, rows: int, columns: int) -> Tensor:
    """N×side×side×P → N×rows×columns×P: the middle of it, or with a border of zeros."""
    side = table.shape[1]
    for axis, count in ((1, rows), (2, columns)):
        if count < side:
            table = table.narrow(axis, (side - count) // 2, count)
    top, left = max(0, (rows - side) // 2), max(0, (columns - side) // 2)
    return pad(table, (0, 0, left, left, top, top)) if top or left else table


def _skew(table: Tensor) -> Tensor:
    """A×L×(2L-1)×B, entry (x, d) → A×L×L×B, entry (x, x') with d = x' - x + L - 1."""
    a, length, offsets, b = table.shape
    if length == 1:
        return table
    flat = table.reshape(a, length * offsets, b).narrow(1, length - 1, length * (offsets - 1))
    return flat.reshape(a, length, offsets - 1, b).narrow(2, 0, length)


class PointwiseAttention(nn.Module):
    """N×C×H×W → N×2C×H×W: the map beside what its positions collected and what was distributed to them (figure 3).

    ``side``² is the number of offsets predicted."""

    def __init__(self, channels: int, inner: int, side: int) -> None:
        super().__init__()
        self._side = side
        for suffix in ("", "_p"):  # collect, distribute
            self.add_module(f"reduce{suffix}", nn.Sequential(*conv_bn_relu(channels, inner, 1)))
            masks = nn.Conv2d(inner, side * side, 1, bias=False)
            self.add_module(f"attention{suffix}", nn.Sequential(*conv_bn_relu(inner, inner, 1), masks))
        self.proj = nn.Sequential(*conv_bn_relu(2 * inner, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        collected = self._branch(x, "", collect=True)
        distributed = self._branch(x, "_p", collect=False)
        y = self.proj(torch.cat((collected, distributed), 1))
        return torch.cat((x, interpolate(y, x.shape[2:], mode="bilinear", align_corners=True)), 1)

    def _branch(self, x: Tensor, suffix: str, collect: bool) -> Tensor:
        size = [(length - 1) // SHRINK + 1 for length in x.shape[2:]]
        x = self.get_submodule(f"reduce{suffix}")(x)
        x = interpolate(x, size, mode="bilinear", align_corners=True)
        related = relations(self.get_submodule(f"attention{suffix}")(x), self._side)
        # Each position's shares of all others sum to one; the softmax runs along the last axis, as every engine has it.
        shares = torch.softmax(related if collect else related.transpose(1, 2), 2)
        return torch.matmul(x.flatten(2), shares.transpose(1, 2)).reshape(x.shape)


class PSANet(Semseg):
    """Point-wise attention behind a dilated ResNet (figure 5); inputs and outputs as ``Semseg`` says."""

    def __init__(self, depth: int, mask: int, classes: int, width: float) -> None:
        super().__init__(depth, classes, width)
        self.psa = PointwiseAttention(self.channels, round(512 * width), mask)

    def context(self, x: Tensor) -> Tensor:
        out: Tensor = self.psa(x)
        return out
