"""EfficientNet B0 to B7 (arXiv:1905.11946) and Lite0 to Lite4, as far as detectors use them: without classifier.

Widths and depths follow the reference implementation (github.com/tensorflow/tpu, models/official/efficientnet and
its folder lite), padding is TensorFlow's SAME, and modules carry timm's names (tf_efficientnet_b0,
tf_efficientnet_lite0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

# Output channels, kernel, stride of the first block, expansion, blocks: table 1 of the paper.
STAGES = (
    (16, 3, 1, 1, 1), (24, 3, 2, 6, 2), (40, 5, 2, 6, 2), (80, 3, 2, 6, 3), (112, 5, 1, 6, 3), (192, 5, 2, 6, 4),
    (320, 3, 1, 6, 1),
)  # fmt: skip
TAPS = (2, 4, 6)  # the stages whose outputs are P3, P4 and P5: 1/8, 1/16 and 1/32 of the input
STEM = 32
SQUEEZE = 4
BN_EPS, BN_MOMENTUM = 1e-3, 0.01  # TensorFlow's; torch's momentum is the new value's share


@dataclass(frozen=True)
class Form:
    """``width`` multiplies channels, ``depth`` blocks. ``lite``: ReLU6, no squeeze-and-excitation, a stem of 32
    channels, and a first and a last stage that do not grow deeper."""

    width: float
    depth: float
    lite: bool = False


FORMS = {
    "b0": Form(1.0, 1.0), "b1": Form(1.0, 1.1), "b2": Form(1.1, 1.2), "b3": Form(1.2, 1.4), "b4": Form(1.4, 1.8),
    "b5": Form(1.6, 2.2), "b6": Form(1.8, 2.6), "b7": Form(2.0, 3.1),
    "lite0": Form(1.0, 1.0, True), "lite1": Form(1.0, 1.1, True), "lite2": Form(1.1, 1.2, True),
    "lite3": Form(1.2, 1.4, True), "lite4": Form(1.4, 1.8, True),
}  # fmt: skip


def activation(lite: bool) -> nn.Module:
    return nn.ReLU6() if lite else nn.SiLU()


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, BN_EPS, BN_MOMENTUM)


def channels_of(channels: float) -> int:
    """The nearest multiple of 8 that is not below 9/10 of ``channels``."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class Conv2dSame(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: ⌈n / stride⌉ outputs, the odd padded pixel at the end."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = False):
        super().__init__(inputs, outputs, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.stride[0] == 1 else self._pad(x))

    def _pad(self, x: Tensor) -> Tensor:
        (height, above), (width, left) = (self._around(n) for n in x.shape[2:])
        return functional.pad(x, (left, width - left, above, height - above))

    def _around(self, size: int) -> tuple[int, int]:
        """Pixels to add along one axis, and how many of them in front."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        return total, total // 2


def depthwise(channels: int, kernel: int, stride: int = 1) -> Conv2dSame:
    return Conv2dSame(channels, channels, kernel, stride, groups=channels)


class SqueezeExcite(nn.Module):
    """Scales each channel by what all of them are on average (arXiv:1709.01507)."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, inner, 1)
        self.act1 = activation(lite=False)
        self.conv_expand = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.conv_expand(self.act1(self.conv_reduce(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(gate)


def _gate(channels: int, inputs: int, lite: bool) -> nn.Module:
    return nn.Identity() if lite else SqueezeExcite(channels, inputs // SQUEEZE)


class SeparableBlock(nn.Module):
    """Depthwise → squeeze-and-excitation → 1×1: the first stage, which expands nothing."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, lite: bool) -> None:
        super().__init__()
        self.conv_dw, self.bn1, self.act = depthwise(inputs, kernel, stride), norm(inputs), activation(lite)
        self.se = _gate(inputs, inputs, lite)
        self.conv_pw, self.bn2 = Conv2dSame(inputs, outputs, 1), norm(outputs)
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv_pw(self.se(self.act(self.bn1(self.conv_dw(x))))))
        return x + out if self.skips else out


class InvertedResidual(nn.Module):
    """1×1 expansion → depthwise → squeeze-and-excitation → 1×1, added to its input where the sizes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, lite: bool) -> None:
        super().__init__()
        inner = inputs * expansion
        self.conv_pw, self.bn1 = Conv2dSame(inputs, inner, 1), norm(inner)
        self.conv_dw, self.bn2, self.act = depthwise(inner, kernel, stride), norm(inner), activation(lite)
        self.se = _gate(inner, inputs, lite)
        self.conv_pwl, self.bn3 = Conv2dSame(inner, outputs, 1), norm(outputs)
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        inner = self.act(self.bn2(self.conv_dw(self.act(self.bn1(self.conv_pw(x))))))
        out: Tensor = self.bn3(self.conv_pwl(self.se(inner)))
        return x + out if self.skips else out


class EfficientNet(nn.Module):
    """N×3×H×W → the maps of 1/8, 1/16 and 1/32 of its size (rounded up), ``channels`` deep."""

    def __init__(self, form: Form, width: float = 1.0) -> None:
        super().__init__()
        scale = form.width * width
        stem = channels_of(STEM * (width if form.lite else scale))
        self.conv_stem, self.bn1, self.act = Conv2dSame(3, stem, 3, 2), norm(stem), activation(form.lite)
        self.blocks = nn.Sequential()
        inputs, last = stem, len(STAGES) - 1
        for i, (outputs, kernel, stride, expansion, blocks) in enumerate(STAGES):
            repeats = blocks if form.lite and i in (0, last) else math.ceil(blocks * form.depth)
            self.blocks.append(_stage(inputs, channels_of(outputs * scale), kernel, stride, expansion, repeats, form))
            inputs = channels_of(outputs * scale)
        self.channels = tuple(channels_of(STAGES[i][0] * scale) for i in TAPS)
        self.apply(_fresh)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.act(self.bn1(self.conv_stem(x)))
        maps = []
        for i, stage in enumerate(self.blocks):
            x = stage(x)
            if i in TAPS:
                maps.append(x)
        return maps


def _stage(
    inputs: int, outputs: int, kernel: int, stride: int, expansion: int, repeats: int, form: Form
) -> nn.Sequential:
    stage = nn.Sequential()
    for i in range(repeats):
        size = (outputs if i else inputs, outputs, kernel, 1 if i else stride)
        separable = expansion == 1
        stage.append(SeparableBlock(*size, form.lite) if separable else InvertedResidual(*size, expansion, form.lite))
    return stage


def _fresh(module: nn.Module) -> None:
    """Normal weights that keep the scale of gradients (He et al., arXiv:1502.01852, fan-out), as the reference's."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
