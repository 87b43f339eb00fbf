"""DeepLabv3: rethinking atrous convolution for semantic image segmentation (arXiv:1706.05587).

- ``resnet101-os16``: the paper's network: multi-grid (1, 2, 4) in the last stage, atrous spatial pyramid pooling at
  rates 6, 12, 18 with image-level features (section 3.3). ``resnet101-os8`` is the same network with the same weights
  at output stride 8, rates doubled, as the paper evaluates it. A checkpoint does not tell the two apart: the first is
  taken, the second has to be asked for. ``resnet50-os16`` is that network on 50 layers.
- ``torchvision-resnet50`` and ``-resnet101``: torchvision's, at output stride 8: rates 12, 24, 36, no multi-grid, one
  more 3×3 convolution before the classifier, and an auxiliary head that only training uses.
- ``mobilenetv2-voc``: TensorFlow's ``deeplabv3_mnv2_pascal`` at output stride 8 (arXiv:1801.04381, table 7): the
  pyramid has only the 1×1 and the image-level branch. Its weights load from an ``.npz`` of the frozen graph's
  constants. It was trained at 513×513, where padding is the same on all sides and the corners of the logits lie on the
  corners of the image: sizes 8k + 1 keep that alignment exactly.

The modules carry torchvision's names: ``backbone``, ``classifier.0.convs``, ``classifier.0.project``, ….
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from edgeseg.models import _deeplabv3_tensorflow
from edgeseg.models._backbones.mobilenetv2 import mobilenetv2
from edgeseg.models._backbones.resnet import resnet
from edgeseg.models._layers import conv_bn_relu, fcn_head
from edgeseg.spec import ModelSpec, Variant

PAPER = "arXiv:1706.05587"
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, RGB
VOC_VAL = "VOC 2012 val, train_aug: 77.2 mIoU at output stride 16, 78.5 at 8 (paper)"

SPEC = ModelSpec(
    name="deeplabv3",
    title="DeepLabv3",
    task="semantic",
    stride=1,
    variants=(
        Variant("resnet101-os16", PAPER, (513, 513), 21, 58_040_661, 71.061, MEAN, STD, published=VOC_VAL),
        Variant("resnet101-os8", PAPER, (513, 513), 21, 58_040_661, 246.182, MEAN, STD, published=VOC_VAL),
        Variant("resnet50-os16", PAPER, (513, 513), 21, 39_048_533, 50.436, MEAN, STD),
        Variant(
            name="torchvision-resnet101",
            paper=PAPER,
            size=(520, 520),
            classes=21,
            parameters=60_996_202,
            gmacs=248.752,
            mean=MEAN,
            std=STD,
            published="COCO val2017, VOC's classes: 67.4 mIoU (torchvision)",
        ),
        Variant(
            name="torchvision-resnet50",
            paper=PAPER,
            size=(520, 520),
            classes=21,
            parameters=42_004_074,
            gmacs=168.731,
            mean=MEAN,
            std=STD,
            published="COCO val2017, VOC's classes: 66.4 mIoU (torchvision)",
        ),
        Variant(
            name="mobilenetv2-voc",
            paper="arXiv:1801.04381",
            size=(513, 513),
            classes=21,
            parameters=2_113_557,
            gmacs=8.826,
            mean=(127.5, 127.5, 127.5),
            std=(127.5, 127.5, 127.5),
            published="VOC 2012 val 75.3 mIoU at output stride 16 (arXiv:1801.04381, table 7)",
        ),
    ),
)


@dataclass(frozen=True)
class _Form:
    """What sets a variant on a ResNet apart."""

    depth: int
    output_stride: int
    torchvision: bool = False

    @property
    def rates(self) -> tuple[int, int, int]:
        return (6, 12, 18) if self.output_stride == 16 else (12, 24, 36)


RESNETS = {
    "resnet101-os16": _Form(101, 16),
    "resnet101-os8": _Form(101, 8),
    "resnet50-os16": _Form(50, 16),
    "torchvision-resnet101": _Form(101, 8, torchvision=True),
    "torchvision-resnet50": _Form(50, 8, torchvision=True),
}


def build(classes: int, variant: str = "resnet101-os16", width: float = 1.0) -> DeepLabv3:
    """DeepLabv3 with ``classes`` output channels and fresh weights; ``width`` scales all other channels."""
    inner = round(256 * width)
    if variant == "mobilenetv2-voc":
        small = mobilenetv2(8, width)
        return DeepLabv3(small, _head(small.channels[-1], inner, (), classes), None, align_corners=True)
    form = RESNETS[variant]
    if not form.torchvision:
        trunk = resnet(form.depth, form.output_stride, width, dilated_entry=True, grid=(1, 2, 4))
        return DeepLabv3(trunk, _head(trunk.channels[-1], inner, form.rates, classes), None)
    trunk = resnet(form.depth, form.output_stride, width)
    head = _head(trunk.channels[-1], inner, form.rates, classes, conv_bn_relu(inner, inner, 3))
    return DeepLabv3(trunk, head, fcn_head(trunk.channels[2], inner, classes, nn.Dropout(0.1)))


def classes_of(state: Mapping[str, Tensor]) -> int | None:
    """Number of classes that a state dict of this network was trained for, if it is one."""
    if "classifier.0.project.0.weight" not in state:
        return None
    bias = state.get("classifier.4.bias", state.get("classifier.1.bias"))
    return None if bias is None else len(bias)


def import_state(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The state dict of ``mobilenetv2-voc`` from the constants of TensorFlow's frozen graph; others as they are."""
    return _deeplabv3_tensorflow.import_state(state)


class ImagePooling(nn.Module):
    """The image's mean → 1×1 convolution → spread over the map (section 3.3). Number 0 is torchvision's pooling."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        for number, layer in enumerate(conv_bn_relu(inputs, outputs, 1), start=1):
            self.add_module(str(number), layer)

    def forward(self, x: Tensor) -> Tensor:
        y = x.mean((2, 3), keepdim=True)
        for layer in self.children():
            y = layer(y)
        return interpolate(y, x.shape[2:], mode="bilinear")


class ASPP(nn.Module):
    """Parallel 1×1, 3×3 at ``rates`` and image-level branches, joined by a 1×1 convolution (figure 5)."""

    def __init__(self, inputs: int, outputs: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        branches = [nn.Sequential(*conv_bn_relu(inputs, outputs, 1))]
        branches += [nn.Sequential(*conv_bn_relu(inputs, outputs, 3, rate)) for rate in rates]
        self.convs = nn.ModuleList([*branches, ImagePooling(inputs, outputs)])
        joined = outputs * len(self.convs)
        self.project = nn.Sequential(*conv_bn_relu(joined, outputs, 1), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(torch.cat([branch(x) for branch in self.convs], 1))
        return out


class DeepLabv3(nn.Module):
    """N×3×H×W float32 (RGB, normalised; any H and W) → logits N×classes×H×W float32, in training with an auxiliary
    head a pair of such."""

    training_only = ("aux_classifier.",)

    def __init__(
        self, backbone: nn.Module, classifier: nn.Module, aux_classifier: nn.Module | None, align_corners: bool = False
    ) -> None:
        super().__init__()
        self.backbone, self.classifier, self.aux_classifier = backbone, classifier, aux_classifier
        self._align_corners = align_corners

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        maps = self.backbone(x)
        logits = self._upsample(self.classifier(maps[-1]), x)
        if self.training and self.aux_classifier is not None:
            return logits, self._upsample(self.aux_classifier(maps[-2]), x)
        return logits

    def _upsample(self, logits: Tensor, x: Tensor) -> Tensor:
        return interpolate(logits, x.shape[2:], mode="bilinear", align_corners=self._align_corners)


def _head(
    inputs: int, inner: int, rates: tuple[int, ...], classes: int, between: list[nn.Module] | None = None
) -> nn.Sequential:
    return nn.Sequential(ASPP(inputs, inner, rates), *(between or []), nn.Conv2d(inner, classes, 1))
