"""DeepLabv2: semantic image segmentation with deep convolutional nets, atrous convolution, and fully connected CRFs
(arXiv:1606.00915).

Atrous spatial pyramid pooling: four branches with dilations 6, 12, 18 and 24 over features of output stride 8, summed
(figures 4 and 7, ASPP-L). As in DeepLab, sides of 8k + 1 are what the network is made for, other frames are continued,
logits are interpolated to every pixel, and the CRF is a stage after the network.

- ``resnet101``: the paper's best; a branch is one 3×3 convolution to the classes. The modules carry the names that
  PyTorch ports of the authors' net share (torchvision's, then ``layer5.conv2d_list.0`` …): those of
  github.com/speedinghzl/Pytorch-Deeplab and its descendants. As in Caffe's ResNet, a halving stage has its stride in
  the first 1×1 convolution.
- ``vgg16``: a branch is a 3×3 convolution, a 1×1 of 1024 filters and a 1×1 to the classes. The modules carry the names
  of the authors' net (``fc6_1``, ``fc7_1``, ``fc8_voc12_1``, …).

The authors train and test their ResNet on three scales of the frame at once and take the maximum of the logits. That
is no part of the network: an engine here sees the frame once.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from edgeseg.models._backbones.resnet import Bottleneck, resnet
from edgeseg.models._backbones.vgg import CAFFE_MEAN, DilatedVGG16, initialise
from edgeseg.models.deeplab import off_grid, on_grid
from edgeseg.spec import ModelSpec, Variant

RATES = (6, 12, 18, 24)


def _variant(name: str, parameters: int, gmacs: float, published: str) -> Variant:
    return Variant(
        name=name,
        paper="arXiv:1606.00915",
        size=(513, 513),
        classes=21,
        parameters=parameters,
        gmacs=gmacs,
        mean=CAFFE_MEAN,
        std=(1.0, 1.0, 1.0),
        order="BGR",
        published=published,
    )


SPEC = ModelSpec(
    name="deeplabv2",
    title="DeepLabv2",
    task="semantic",
    stride=1,
    variants=(
        _variant("resnet101", 44_048_532, 188.886, "VOC 2012 val 76.4 mIoU on three scales, with its CRF 77.7 (paper)"),
        _variant("vgg16", 37_877_652, 201.956, "VOC 2012 val 69.0 mIoU, with its CRF 71.6 (paper)"),
    ),
)


def build(classes: int, variant: str = "resnet101") -> nn.Module:
    """DeepLabv2 with ``classes`` output channels and fresh weights."""
    return OnVGG16(classes) if variant == "vgg16" else OnResNet101(classes)


def classes_of(state: Mapping[str, Tensor]) -> int | None:
    """Number of classes that a state dict of this network was trained for, if it is one."""
    keys = ("layer5.conv2d_list.0.weight", "fc8_voc12_1.weight")
    return next((int(state[key].shape[0]) for key in keys if key in state), None)


class OnVGG16(DilatedVGG16):
    """N×3×H×W float32 (BGR less the mean; any H and W) → logits N×classes×H×W float32."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        for i, rate in enumerate(RATES, start=1):
            self.add_module(f"fc6_{i}", nn.Conv2d(self.channels, 1024, 3, padding=rate, dilation=rate))
            self.add_module(f"fc7_{i}", nn.Conv2d(1024, 1024, 1))
            self.add_module(f"fc8_voc12_{i}", nn.Conv2d(1024, classes, 1))
        self.dropout = nn.Dropout(0.5)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(on_grid(x))
        first, *others = (self._branch(i, features) for i in range(1, len(RATES) + 1))
        return off_grid(sum(others, first), x.shape[2], x.shape[3])

    def _branch(self, number: int, x: Tensor) -> Tensor:
        for layer in ("fc6", "fc7"):
            x = self.dropout(functional.relu(self.get_submodule(f"{layer}_{number}")(x)))
        scores: Tensor = self.get_submodule(f"fc8_voc12_{number}")(x)
        return scores


class Pyramid(nn.Module):
    """The sum of 3×3 convolutions to the classes, one for each dilation."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.conv2d_list = nn.ModuleList(nn.Conv2d(inputs, classes, 3, padding=r, dilation=r) for r in RATES)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = (branch(x) for branch in self.conv2d_list)
        out: Tensor = sum(others, first)
        return out


class OnResNet101(nn.Module):
    """N×3×H×W float32 (BGR less the mean; any H and W) → logits N×classes×H×W float32."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        trunk = resnet(101, output_stride=8, dilated_entry=True)
        halving = trunk.get_submodule("layer2.0")
        assert isinstance(halving, Bottleneck)
        halving.conv1.stride, halving.conv2.stride = (2, 2), (1, 1)
        for name, layer in trunk.named_children():
            self.add_module(name, layer)
        self.layer5 = Pyramid(trunk.channels[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        y = on_grid(x)
        for layer in self.children():
            y = layer(y)
        return off_grid(y, x.shape[2], x.shape[3])
