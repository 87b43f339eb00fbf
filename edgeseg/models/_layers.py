"""What several networks' heads are made of."""

from __future__ import annotations

from torch import nn


def conv_bn_relu(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> list[nn.Module]:
    """Convolution of stride 1 that keeps the map's size, without bias → batch normalisation → ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, 1, dilation * (kernel // 2), dilation, bias=False)
    nn.init.kaiming_normal_(conv.weight)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def fcn_head(inputs: int, inner: int, classes: int, dropout: nn.Module) -> nn.Sequential:
    """3×3 to ``inner`` channels, ``dropout``, 1×1 to the classes."""
    return nn.Sequential(*conv_bn_relu(inputs, inner, 3), dropout, nn.Conv2d(inner, classes, 1))
