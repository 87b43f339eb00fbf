"""ShuffleNet 1× with eight groups (arXiv:1707.01083, table 1), without the classifier.

The modules carry the names of the implementation that LiteSeg's authors train with (github.com/jaxony/ShuffleNet;
``stage2.ShuffleUnit_Stage2_0.g_conv_1x1_compress.conv1x1``, …). Unlike the paper's, its first convolution has neither
batch normalisation nor ReLU, and every convolution has a bias.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu

GROUPS = 8
STEM = 24
STAGES = ((384, 4), (768, 8), (1536, 4))  # channels, units


class ShuffleUnit(nn.Module):
    """Grouped 1×1 → channel shuffle → depthwise 3×3 → grouped 1×1, added to its input; where ``outputs`` differ from
    ``inputs`` the map is halved and joined to the averaged input instead (figure 2)."""

    def __init__(self, inputs: int, outputs: int, entry_groups: int = GROUPS) -> None:
        super().__init__()
        inner = outputs // 4
        self._halves = inputs != outputs
        added = outputs - inputs if self._halves else outputs
        self.g_conv_1x1_compress = _grouped(inputs, inner, entry_groups, nn.ReLU())
        self.depthwise_conv3x3 = nn.Conv2d(inner, inner, 3, 2 if self._halves else 1, 1, groups=inner)
        self.bn_after_depthwise = nn.BatchNorm2d(inner)
        self.g_conv_1x1_expand = _grouped(inner, added, GROUPS)

    def forward(self, x: Tensor) -> Tensor:
        y = shuffle(self.g_conv_1x1_compress(x), GROUPS)
        y = self.g_conv_1x1_expand(self.bn_after_depthwise(self.depthwise_conv3x3(y)))
        return relu(torch.cat((avg_pool2d(x, 3, 2, 1), y), 1) if self._halves else x + y)


class ShuffleNet(nn.Module):
    """N×3×H×W → four maps of stride 4, 8, 16, 32 with ``channels`` channels, all but the first rectified."""

    channels = (STEM, *(outputs for outputs, _ in STAGES))

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM, 3, 2, 1)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = STEM
        for stage, (outputs, count) in enumerate(STAGES, start=2):
            units = nn.Sequential()
            for i in range(count):
                # 24 feature maps are too few for groups (section 3.2).
                unit = ShuffleUnit(outputs if i else inputs, outputs, 1 if inputs == STEM and not i else GROUPS)
                units.add_module(f"ShuffleUnit_Stage{stage}_{i}", unit)
            self.add_module(f"stage{stage}", units)
            inputs = outputs
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.maxpool(self.conv1(x))]
        for stage in range(2, 2 + len(STAGES)):
            maps.append(self.get_submodule(f"stage{stage}")(maps[-1]))
        return maps


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Channel i of group g goes to place i · groups + g, so that each group of the next layer sees all."""
    n, channels, height, width = x.shape
    parts = x.reshape(n, groups, channels // groups, height * width)
    return parts.transpose(1, 2).reshape(n, channels, height, width)


def _grouped(inputs: int, outputs: int, groups: int, activation: nn.Module | None = None) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1x1"] = nn.Conv2d(inputs, outputs, 1, groups=groups)
    layers["batch_norm"] = nn.BatchNorm2d(outputs)
    if activation is not None:
        layers["relu"] = activation
    return nn.Sequential(layers)
