"""SegNet: a deep convolutional encoder-decoder architecture for image segmentation (arXiv:1511.00561).

VGG16's thirteen convolutions with batch normalisation; five poolings whose indices the decoder unpools by; the decoder
mirrors the encoder (figure 2). Windows are 2×2 and do not overlap; where a side is odd the last one is cut off at the
border and unpooling comes back to the odd size, as in the authors' net for CamVid (360×480: 45 → 23 → 45).

The modules carry the names of the authors' net (github.com/alexgkendall/SegNet-Tutorial, ``segnet_train.prototxt``:
``conv1_1``, ``conv1_1_bn``, …, ``conv1_1_D``). Like it, the network takes BGR frames as they are: the local contrast
normalisation of the paper stands in the authors' SegNet-Basic only.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from edgeseg.models._backbones.vgg import BLOCKS, initialise, layers
from edgeseg.spec import ModelSpec, Variant

SPEC = ModelSpec(
    name="segnet",
    title="SegNet",
    task="semantic",
    stride=1,
    variants=(
        Variant(
            name="vgg16",
            paper="arXiv:1511.00561",
            size=(360, 480),
            classes=11,
            parameters=29_449_355,
            gmacs=106.712,
            std=(1.0, 1.0, 1.0),
            order="BGR",
            published="CamVid test 60.1 mIoU, trained on 3.5K frames of several sets (paper); 55.6 (arXiv:1606.02147)",
        ),
    ),
)

WINDOW = (2, 2)


def build(classes: int, variant: str = "vgg16") -> SegNet:
    """SegNet with ``classes`` output channels and fresh weights."""
    return SegNet(classes)


def classes_of(state: Mapping[str, Tensor]) -> int | None:
    """Number of classes that a state dict of this network was trained for, if it is one."""
    weight = state.get("conv1_1_D.weight")
    return None if weight is None else int(weight.shape[0])


class SegNet(nn.Module):
    """N×3×H×W float32 (BGR, 0 to 255; any H and W) → logits N×classes×H×W float32."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        decoder, inputs = [], 3
        for block, channels in enumerate(BLOCKS, start=1):
            for name, outputs in zip(layers(block), channels, strict=True):
                self._add(name, inputs, outputs)
                decoder.append((f"{name}_D", outputs, inputs))
                inputs = outputs
        for name, deep, shallow in reversed(decoder[1:]):
            self._add(name, deep, shallow)
        self.conv1_1_D = nn.Conv2d(BLOCKS[0][0], classes, 3, padding=1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        pooled: list[tuple[Tensor, tuple[int, int]]] = []
        for block in range(1, len(BLOCKS) + 1):
            for name in layers(block):
                x = self._layer(name, x)
            size = (x.shape[2], x.shape[3])
            x, indices = functional.max_pool2d_with_indices(x, WINDOW, ceil_mode=True)
            pooled.append((indices, size))
        for block in range(len(BLOCKS), 0, -1):
            indices, size = pooled.pop()
            x = functional.max_unpool2d(x, indices, WINDOW, output_size=size)
            for name in layers(block)[:0:-1] if block == 1 else layers(block)[::-1]:
                x = self._layer(f"{name}_D", x)
        logits: Tensor = self.conv1_1_D(x)
        return logits

    def _add(self, name: str, inputs: int, outputs: int) -> None:
        self.add_module(name, nn.Conv2d(inputs, outputs, 3, padding=1))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(outputs))

    def _layer(self, name: str, x: Tensor) -> Tensor:
        return functional.relu(self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x)))
