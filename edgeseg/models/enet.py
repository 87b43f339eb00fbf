"""ENet: a deep neural network architecture for real-time semantic segmentation (arXiv:1606.02147).

The modules carry the names of the checkpoint published at github.com/davidtvs/PyTorch-ENet (commit
921e40c), so that it and its descendants load. Two variants:

- ``paper``: pooling windows are 2×2 and do not overlap; one PReLU slope per feature map; nothing between
  a bottleneck's last batch normalisation and the addition.
- ``overlap``: that checkpoint's network. Pooling windows are 3×3 with stride 2 and overlap, so unpooling
  indices collide and the last write stays; PReLUs inside a bottleneck have one slope; one more PReLU
  stands before the addition.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeseg.spec import ModelSpec, Variant

SPEC = ModelSpec(
    name="enet",
    title="ENet",
    task="semantic",
    stride=8,
    variants=(
        Variant(
            name="paper",
            paper="arXiv:1606.02147",
            size=(360, 640),
            classes=19,
            parameters=362_191,
            gmacs=1.811,
            published="Cityscapes test 58.3 mIoU, CamVid test 51.3 mIoU (paper)",
        ),
        Variant(
            name="overlap",
            paper="arXiv:1606.02147",
            size=(360, 480),
            classes=12,
            parameters=359_780,
            gmacs=1.315,
            published="CamVid test 53.3 mIoU, void ignored (measured, checkpoint of PyTorch-ENet 921e40c)",
        ),
    ),
)

# The bottlenecks of stages 2 and 3 (table 1): kind and dilation.
CONTEXT = (
    ("regular", 1),
    ("dilated", 2),
    ("asymmetric", 1),
    ("dilated", 4),
    ("regular", 1),
    ("dilated", 8),
    ("asymmetric", 1),
    ("dilated", 16),
)


def build(classes: int, variant: str = "paper") -> ENet:
    """ENet with ``classes`` output channels and fresh weights."""
    return ENet(classes, overlap=variant == "overlap")


def classes_of(state: Mapping[str, Tensor]) -> int | None:
    """Number of classes that a state dict of this network was trained for, if it is one."""
    weight = state.get("transposed_conv.weight")
    return None if weight is None else int(weight.shape[1])


def _conv(inputs: int, outputs: int, kernel: int | tuple[int, int], prelu: int | None, **kw: int) -> list[nn.Module]:
    """Convolution without bias → batch normalisation → PReLU with ``prelu`` slopes (None: no PReLU)."""
    kh, kw_ = (kernel, kernel) if isinstance(kernel, int) else kernel
    dilation, stride = kw.get("dilation", 1), kw.get("stride", 1)
    padding = (0, 0) if kernel == 2 else (dilation * (kh // 2), dilation * (kw_ // 2))
    conv = nn.Conv2d(inputs, outputs, (kh, kw_), stride, padding, dilation, bias=False)
    return [conv, nn.BatchNorm2d(outputs)] + ([nn.PReLU(prelu)] if prelu else [])


class InitialBlock(nn.Module):
    """13 learned feature maps beside the pooled image: N×3×H×W → N×16×H/2×W/2 (figure 2a)."""

    def __init__(self, overlap: bool) -> None:
        super().__init__()
        self.main_branch = nn.Conv2d(3, 13, 3, stride=2, padding=1, bias=False)
        self.ext_branch = nn.MaxPool2d(3, 2, 1) if overlap else nn.MaxPool2d(2, 2)
        self.batch_norm = nn.BatchNorm2d(16)
        self.out_prelu = nn.PReLU(16)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat((self.main_branch(x), self.ext_branch(x)), 1)
        out: Tensor = self.out_prelu(self.batch_norm(joined))
        return out


class RegularBottleneck(nn.Module):
    """1×1 projection → 3×3 (dilated) or 5×1 and 1×5 → 1×1 expansion, added to its input (figure 2b)."""

    def __init__(self, channels: int, overlap: bool, dropout: float, dilation: int = 1, asymmetric: bool = False):
        super().__init__()
        inner = channels // 4
        slopes = 1 if overlap else inner
        self.ext_conv1 = nn.Sequential(*_conv(channels, inner, 1, slopes))
        if asymmetric:
            layers = _conv(inner, inner, (5, 1), slopes) + _conv(inner, inner, (1, 5), slopes)
        else:
            layers = _conv(inner, inner, 3, slopes, dilation=dilation)
        self.ext_conv2 = nn.Sequential(*layers)
        self.ext_conv3 = nn.Sequential(*_conv(inner, channels, 1, 1 if overlap else None))
        self.ext_regul = nn.Dropout2d(dropout)
        self.out_prelu = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        ext = self.ext_regul(self.ext_conv3(self.ext_conv2(self.ext_conv1(x))))
        out: Tensor = self.out_prelu(x + ext)
        return out


class DownsamplingBottleneck(nn.Module):
    """Halves the map: pooling with indices, zero channels appended, beside a strided extension."""

    def __init__(self, inputs: int, outputs: int, overlap: bool, dropout: float) -> None:
        super().__init__()
        inner = inputs // 4
        slopes = 1 if overlap else inner
        self.extra = outputs - inputs
        kernel, pad = (3, 1) if overlap else (2, 0)
        self.main_max1 = nn.MaxPool2d(kernel, 2, pad, return_indices=True)
        self.ext_conv1 = nn.Sequential(*_conv(inputs, inner, 2, slopes, stride=2))
        self.ext_conv2 = nn.Sequential(*_conv(inner, inner, 3, slopes))
        self.ext_conv3 = nn.Sequential(*_conv(inner, outputs, 1, 1 if overlap else None))
        self.ext_regul = nn.Dropout2d(dropout)
        self.out_prelu = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        main, indices = self.main_max1(x)
        main = functional.pad(main, (0, 0, 0, 0, 0, self.extra))
        ext = self.ext_regul(self.ext_conv3(self.ext_conv2(self.ext_conv1(x))))
        return self.out_prelu(main + ext), indices


class UpsamplingBottleneck(nn.Module):
    """Doubles the map: 1×1 convolution and max-unpooling beside a transposed convolution."""

    def __init__(self, inputs: int, outputs: int, overlap: bool, dropout: float) -> None:
        super().__init__()
        inner = inputs // 4
        slopes = 1 if overlap else inner
        self.main_conv1 = nn.Sequential(*_conv(inputs, outputs, 1, None))
        self.main_unpool1 = nn.MaxUnpool2d(2)
        self.ext_conv1 = nn.Sequential(*_conv(inputs, inner, 1, slopes))
        deconv = nn.ConvTranspose2d(inner, inner, 3, stride=2, padding=1, output_padding=1, bias=False)
        self.ext_conv2 = nn.Sequential(deconv, nn.BatchNorm2d(inner), nn.PReLU(slopes))
        self.ext_conv3 = nn.Sequential(*_conv(inner, outputs, 1, 1 if overlap else None))
        self.ext_regul = nn.Dropout2d(dropout)
        self.out_prelu = nn.PReLU(outputs)

    def forward(self, x: Tensor, indices: Tensor) -> Tensor:
        main = self.main_unpool1(self.main_conv1(x), indices)
        ext = self.ext_regul(self.ext_conv3(self.ext_conv2(self.ext_conv1(x))))
        out: Tensor = self.out_prelu(main + ext)
        return out


class ENet(nn.Module):
    """N×3×H×W float32 (RGB / 255; H and W multiples of 8) → logits N×classes×H×W float32 (table 1)."""

    def __init__(self, classes: int, overlap: bool = False) -> None:
        super().__init__()
        self.initial_block = InitialBlock(overlap)
        self.downsample1_0 = DownsamplingBottleneck(16, 64, overlap, 0.01)
        self._stages = {1: [f"regular1_{i}" for i in range(1, 5)]}
        for name in self._stages[1]:
            self.add_module(name, RegularBottleneck(64, overlap, 0.01))
        self.downsample2_0 = DownsamplingBottleneck(64, 128, overlap, 0.1)
        for stage, first in ((2, 1), (3, 0)):  # stage 3 repeats stage 2 without its downsampling
            self._stages[stage] = [f"{kind}{stage}_{first + i}" for i, (kind, _) in enumerate(CONTEXT)]
            for name, (kind, dilation) in zip(self._stages[stage], CONTEXT, strict=True):
                self.add_module(name, RegularBottleneck(128, overlap, 0.1, dilation, kind == "asymmetric"))
        self.upsample4_0 = UpsamplingBottleneck(128, 64, overlap, 0.1)
        self.regular4_1 = RegularBottleneck(64, overlap, 0.1)
        self.regular4_2 = RegularBottleneck(64, overlap, 0.1)
        self.upsample5_0 = UpsamplingBottleneck(64, 16, overlap, 0.1)
        self.regular5_1 = RegularBottleneck(16, overlap, 0.1)
        self.transposed_conv = nn.ConvTranspose2d(16, classes, 3, stride=2, padding=1, output_padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x, indices1 = self.downsample1_0(self.initial_block(x))
        x, indices2 = self.downsample2_0(self._through(1, x))
        x = self._through(3, self._through(2, x))
        x = self.regular4_2(self.regular4_1(self.upsample4_0(x, indices2)))
        logits: Tensor = self.transposed_conv(self.regular5_1(self.upsample5_0(x, indices1)))
        return logits

    def _through(self, stage: int, x: Tensor) -> Tensor:
        for name in self._stages[stage]:
            x = self.get_submodule(name)(x)
        return x
