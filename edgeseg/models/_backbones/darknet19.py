"""Darknet-19 (arXiv:1612.08242, table 6) with its last stage dilated, as LiteSeg has it, without the classifier.

The modules carry the names of EAVISE's lightnet, which LiteSeg's authors train with (``layers.1_convbatch.layers.0``
the convolution, ``.1`` the normalisation, …, ``layers.23_convbatch``; pooling layers have numbers too).
"""

from __future__ import annotations

from torch import Tensor, nn

# Channels of each stage's convolutions, 3×3 and 1×1 in turn; between stages the map is halved.
STAGES = ((32,), (64,), (128, 64, 128), (256, 128, 256), (512, 256, 512, 256, 512), (1024, 512, 1024, 512, 1024))
SLOPE = 0.1
# LiteSeg's authors pad every 3×3 convolution by 1, also the three dilated ones, each of which so takes 2 from the map's
# height and width. These 1×1 convolutions, padded by 1 as well, add 2 each: the last map has its right size again.
PADDED = (14, 16, 20)


class Convolution(nn.Module):
    """Convolution without bias → batch normalisation → leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, padding: int, dilation: int) -> None:
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, kernel, 1, padding, dilation, bias=False)
        nn.init.kaiming_normal_(conv.weight, SLOPE)
        self.layers = nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(SLOPE))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class Darknet19(nn.Module):
    """N×3×H×W (H and W at least 16) → maps of stride 4, 8 and 16 with ``channels`` channels.

    The last stage keeps the size of the one before it and is dilated by 2 instead."""

    channels = (128, 256, 1024)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        inputs, number = 3, 1
        for stage, widths in enumerate(STAGES, start=1):
            for i, outputs in enumerate(widths):
                kernel = 1 if i % 2 else 3
                padding = 1 if kernel == 3 or number in PADDED else 0
                layer = Convolution(inputs, outputs, kernel, padding, 2 if stage == len(STAGES) else 1)
                self.layers.add_module(f"{number}_convbatch", layer)
                inputs, number = outputs, number + 1
            if stage < len(STAGES) - 1:
                self.layers.add_module(f"{number}_max", nn.MaxPool2d(2, 2))
            number += 1

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for layer in self.layers:
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
            x = layer(x)
        return [*maps[2:], x]
