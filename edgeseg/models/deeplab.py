"""DeepLab: semantic image segmentation with deep convolutional nets and fully connected CRFs (arXiv:1412.7062).

DeepLab-LargeFOV, the paper's best network of one scale: VGG16 at output stride 8, its first fully connected layer a 3×3
convolution with dilation 12 and 1024 filters (section 4.1 and table 2). The fully connected CRF that sharpens its
answer is no part of the network: it is a stage after it.

Features stand on every eighth pixel, corners included, for sides of 8k + 1 (the paper's crops are 321, its test
images 513). Other frames are continued at the right and the bottom by the mean colour, as the authors' data layer
does to reach 513. Logits are interpolated from there to every pixel, as in the authors' net, and cut to the frame.

The modules carry the names of the authors' net (``deeplab_largeFOV``: ``conv1_1`` … ``fc7``, ``fc8_voc12``). It has one
more layer than the paper tells of: an average over 3×3 before ``fc6``.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from edgeseg.models._backbones.vgg import CAFFE_MEAN, DilatedVGG16, initialise
from edgeseg.spec import ModelSpec, Variant

SPEC = ModelSpec(
    name="deeplab",
    title="DeepLab",
    task="semantic",
    stride=1,
    variants=(
        Variant(
            name="largefov",
            paper="arXiv:1412.7062",
            size=(513, 513),
            classes=21,
            parameters=20_505_429,
            gmacs=128.585,
            mean=CAFFE_MEAN,
            std=(1.0, 1.0, 1.0),
            order="BGR",
            published="VOC 2012 val 62.3 mIoU, with its CRF 67.6, test with its CRF 70.3 (paper)",
        ),
    ),
)

STRIDE = 8


def build(classes: int, variant: str = "largefov") -> DeepLab:
    """DeepLab-LargeFOV with ``classes`` output channels and fresh weights."""
    return DeepLab(classes)


def classes_of(state: Mapping[str, Tensor]) -> int | None:
    """Number of classes that a state dict of this network was trained for, if it is one."""
    weight = state.get("fc8_voc12.weight")
    return None if weight is None else int(weight.shape[0])


class DeepLab(DilatedVGG16):
    """N×3×H×W float32 (BGR less the mean; any H and W) → logits N×classes×H×W float32."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.fc6 = nn.Conv2d(self.channels, 1024, 3, padding=12, dilation=12)
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        self.dropout = nn.Dropout(0.5)
        self.fc8_voc12 = nn.Conv2d(1024, classes, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.avg_pool2d(self.features(on_grid(x)), 3, stride=1, padding=1)
        y = self.dropout(functional.relu(self.fc6(y)))
        y = self.dropout(functional.relu(self.fc7(y)))
        return off_grid(self.fc8_voc12(y), x.shape[2], x.shape[3])


def on_grid(x: Tensor) -> Tensor:
    """N×C×H×W continued by zeros, which are the mean colour, to sides of 8k + 1."""
    bottom, right = (-(n - 1) % STRIDE for n in x.shape[2:])
    return functional.pad(x, (0, right, 0, bottom)) if bottom or right else x


def off_grid(logits: Tensor, height: int, width: int) -> Tensor:
    """The logits of every eighth pixel interpolated to every pixel, and cut to ``height`` × ``width``."""
    size = [STRIDE * (n - 1) + 1 for n in logits.shape[2:]]
    whole = functional.interpolate(logits, size, mode="bilinear", align_corners=True)
    return whole if size == [height, width] else whole[:, :, :height, :width]
