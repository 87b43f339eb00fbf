"""ResNet-50 and ResNet-101 (arXiv:1512.03385) with dilated last stages.

The modules carry torchvision's names (``conv1``, ``bn1``, ``layer1.0.conv1``, …, ``layer4.2.bn3``), so that its
checkpoints load, without the classifier ``fc``. As there, the stride stands in a block's 3×3 convolution. The deep
stem (three 3×3 convolutions in place of one of 7×7) is that of github.com/hszhao/semseg: ``conv1`` … ``bn3``.
"""

from __future__ import annotations

from torch import Tensor, nn

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
EXPANSION = 4


def resnet(
    depth: int,
    output_stride: int = 32,
    width: float = 1.0,
    deep_stem: bool = False,
    dilated_entry: bool = False,
    grid: tuple[int, int, int] = (1, 1, 1),
) -> ResNet:
    """ResNet of ``depth`` 50 or 101, fresh weights.

    Args:
        output_stride: 32, 16 or 8: beyond it a stage keeps the map's size and doubles its dilation instead.
        width: scales every channel count.
        deep_stem: semseg's stem, 128 channels wide.
        dilated_entry: the first block of a stage that keeps its size is dilated like the others (semseg, DeepLab in
            Caffe); else it still has the dilation of the stage before (torchvision).
        grid: factors on the dilations of the last stage's three blocks (DeepLabv3's multi-grid).
    """
    inner = [round(64 * 2**stage * width) for stage in range(4)]
    return ResNet(inner, _plan(BLOCKS[depth], output_stride, dilated_entry, grid), deep_stem)


def _plan(
    blocks: tuple[int, ...], output_stride: int, dilated_entry: bool, grid: tuple[int, int, int]
) -> list[list[tuple[int, int]]]:
    """(stride, dilation) of every block of every stage."""
    stages, stride, dilation = [], 4, 1
    for number, count in enumerate(blocks):
        step, entry = 1 if number == 0 else 2, dilation
        if stride * step > output_stride:
            step, dilation = 1, dilation * 2
        stride *= step
        stages.append([(step, dilation if dilated_entry else entry), *[(1, dilation)] * (count - 1)])
    stages[-1] = [(step, each * factor) for (step, each), factor in zip(stages[-1], grid, strict=True)]
    return stages


class Bottleneck(nn.Module):
    """1×1 reduction → 3×3 → 1×1 expansion by four, added to its input."""

    def __init__(self, inputs: int, inner: int, stride: int, dilation: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        out: Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return out


class ResNet(nn.Module):
    """N×3×H×W → [layer1, layer2, layer3, layer4]: maps of stride 4, 8, 16, 32 (none above the output stride) with
    ``channels`` channels (256, 512, 1024, 2048 at full width), rectified."""

    def __init__(self, inner: list[int], plan: list[list[tuple[int, int]]], deep_stem: bool) -> None:
        super().__init__()
        self.channels = [EXPANSION * n for n in inner]
        self._stem = _stem(self, inner[0], deep_stem)
        inputs = (2 if deep_stem else 1) * inner[0]
        for number, (width, outputs, blocks) in enumerate(zip(inner, self.channels, plan, strict=True), start=1):
            layer = nn.Sequential()
            for stride, dilation in blocks:
                layer.append(Bottleneck(inputs, width, stride, dilation, outputs))
                inputs = outputs
            self.add_module(f"layer{number}", layer)
        _initialise(self, sum(map(len, plan)))

    def stem(self) -> nn.Sequential:
        """What stands before ``layer1``, in order, for networks whose checkpoints number it."""
        return nn.Sequential(*(self.get_submodule(name) for name in self._stem))

    def forward(self, x: Tensor) -> list[Tensor]:
        for name in self._stem:
            x = self.get_submodule(name)(x)
        maps = []
        for stage in range(len(self.channels)):
            x = self.get_submodule(f"layer{stage + 1}")(x)
            maps.append(x)
        return maps


def _stem(module: nn.Module, width: int, deep: bool) -> list[str]:
    """Adds the stem's layers to ``module``; the names in the order in which they are called."""
    if deep:
        convolutions = [
            nn.Conv2d(3, width, 3, 2, 1, bias=False),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.Conv2d(width, 2 * width, 3, 1, 1, bias=False),
        ]
    else:
        convolutions = [nn.Conv2d(3, width, 7, 2, 3, bias=False)]
    names = []
    for number, convolution in enumerate(convolutions, start=1):
        module.add_module(f"conv{number}", convolution)
        module.add_module(f"bn{number}", nn.BatchNorm2d(convolution.out_channels))
        names += [f"conv{number}", f"bn{number}", "relu"]
    module.add_module("relu", nn.ReLU(inplace=True))
    module.add_module("maxpool", nn.MaxPool2d(3, 2, 1))
    return [*names, "maxpool"]


def _initialise(module: nn.Module, blocks: int) -> None:
    """He et al. (arXiv:1502.01852). What a block adds is scaled so that the sum of all is no larger than the input:
    with fresh statistics nothing else keeps the sum of 33 blocks within half precision."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, Bottleneck):
            nn.init.constant_(layer.bn3.weight, blocks**-0.5)
