"""MobileNetV2 (arXiv:1801.04381) with dilated last stages.

The modules carry torchvision's names (``features.0.0``, ``features.1.conv.0.0``, …, ``features.17.conv.3``), so that
its checkpoints load, without the last 1×1 convolution ``features.18`` and the classifier.
"""

from __future__ import annotations

from torch import Tensor, nn

# Table 2 of the paper: expansion, channels, blocks, stride of the first.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
LAST = (1, 2, 4, 6)  # stages after which the map is halved, and the last: what ``forward`` gives


def mobilenetv2(output_stride: int = 32, width: float = 1.0) -> MobileNetV2:
    """MobileNetV2 with fresh weights.

    Args:
        output_stride: 32, 16 or 8: beyond it the map keeps its size and convolutions double their dilation instead,
            from the block after the one that would have halved it (torchvision's and TensorFlow's way).
        width: the paper's multiplier of channel counts, which stay multiples of eight.
    """
    return MobileNetV2(output_stride, width)


def divisible(channels: float) -> int:
    """The multiple of eight nearest to ``channels``, not below nine tenths of it."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def _plan(output_stride: int) -> list[list[tuple[int, int]]]:
    """(stride, dilation) of every block of every stage."""
    stages, stride, dilation = [], 2, 1
    for _, _, count, step in STAGES:
        entry = dilation
        if stride * step > output_stride:
            step, dilation = 1, dilation * step
        stride *= step
        stages.append([(step, entry), *[(1, dilation)] * (count - 1)])
    return stages


class InvertedResidual(nn.Module):
    """1×1 expansion → depthwise 3×3 → linear 1×1 projection, added to its input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, dilation: int) -> None:
        super().__init__()
        inner = inputs * expansion
        layers: list[nn.Module] = [_conv(inputs, inner, 1)] if expansion != 1 else []
        layers.append(_conv(inner, inner, 3, stride, dilation, groups=inner))
        layers += [nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*layers)
        self._added = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self._added else y


class MobileNetV2(nn.Module):
    """N×3×H×W → four maps of stride 4, 8, 16, 32 (none above the output stride) with ``channels`` channels
    (24, 32, 96, 320 at full width), not rectified."""

    def __init__(self, output_stride: int, width: float) -> None:
        super().__init__()
        inputs = divisible(32 * width)
        self.features = nn.Sequential(_conv(3, inputs, 3, 2))
        self.channels: list[int] = []
        self._ends: list[int] = []
        for stage, blocks in enumerate(_plan(output_stride)):
            expansion, outputs = STAGES[stage][0], divisible(STAGES[stage][1] * width)
            for stride, dilation in blocks:
                self.features.append(InvertedResidual(inputs, outputs, expansion, stride, dilation))
                inputs = outputs
            if stage in LAST:
                self.channels.append(inputs)
                self._ends.append(len(self.features))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for index, layer in enumerate(self.features, start=1):
            x = layer(x)
            if index in self._ends:
                maps.append(x)
        return maps


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution without bias → batch normalisation → ReLU6."""
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))
