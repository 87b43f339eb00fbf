"""FCN: fully convolutional networks for semantic segmentation (arXiv:1605.06211), on VGG16.

- ``8s``: the paper's best: scores of conv7, of pool4 and of pool3 are summed, each upsampled to the next's stride, and
  the sum is upsampled eight times (figure 3). It is the network that is trained in stages; FCN-8s at-once scales
  pool3 and pool4 besides.
- ``16s`` and ``32s``: without pool3, and without both.

The frame is padded by 100 in the first convolution, so that conv6's 7×7 has something to stand on at any size;
the authors' offsets crop the scores back onto each other and onto the frame. Upsampling is by deconvolutions that
start as bilinear interpolation. Scores start as He et al. draw them, where the authors' start from 0, so that a fresh
network has an answer.

The modules carry the names of the authors' nets (github.com/shelhamer/fcn.berkeleyvision.org, ``voc-fcn8s``:
``conv1_1`` … ``fc7``, ``score_fr``, ``upscore8``), which github.com/wkentaro/pytorch-fcn has too: its checkpoints, the
authors' weights among them, load.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeseg.models._backbones.vgg import BLOCKS, VGG16, initialise
from edgeseg.spec import ModelSpec, Variant


def _variant(name: str, parameters: int, gmacs: float, published: str) -> Variant:
    return Variant(
        name=name,
        paper="arXiv:1605.06211",
        size=(500, 500),
        classes=21,
        parameters=parameters,
        gmacs=gmacs,
        mean=(104.00698793, 116.66876762, 122.67891434),
        std=(1.0, 1.0, 1.0),
        order="BGR",
        published=published,
    )


SPEC = ModelSpec(
    name="fcn",
    title="FCN",
    task="semantic",
    stride=1,
    variants=(
        _variant("8s", 134_489_759, 181.529, "VOC 2011 val 65.5 mIoU, VOC 2012 test 67.2 (authors' repository)"),
        _variant("16s", 134_815_994, 181.448, "VOC 2011 val 65.0 mIoU (authors' repository)"),
        _variant("32s", 136_152_917, 181.366, "VOC 2011 val 63.6 mIoU (authors' repository)"),
    ),
)

# What remains to be done to the scores of conv7: deconvolution (name, stride), the pool joined after it and where that
# pool's map is cut. The last one's cut is the frame's. The offsets are those of the authors' nets.
Step = tuple[str, int, int | None, int]
STEPS: dict[str, tuple[Step, ...]] = {
    "8s": (("upscore2", 2, 4, 5), ("upscore_pool4", 2, 3, 9), ("upscore8", 8, None, 31)),
    "16s": (("upscore2", 2, 4, 5), ("upscore16", 16, None, 27)),
    "32s": (("upscore", 32, None, 19),),
}


def build(classes: int, variant: str = "8s", width: float = 1.0) -> FCN:
    """FCN with ``classes`` output channels and fresh weights; ``width`` scales the other channel counts."""
    return FCN(classes, STEPS[variant], width)


def classes_of(state: Mapping[str, Tensor]) -> int | None:
    """Number of classes that a state dict of this network was trained for, if it is one."""
    weight = state.get("score_fr.weight")
    return None if weight is None else int(weight.shape[0])


class FCN(VGG16):
    """N×3×H×W float32 (BGR less the mean; any H and W) → logits N×classes×H×W float32."""

    def __init__(self, classes: int, steps: tuple[Step, ...], width: float = 1.0) -> None:
        super().__init__(width, padding=100)
        self._steps = steps
        inner = round(4096 * width)
        self.fc6 = nn.Conv2d(self.channels, inner, 7)
        self.fc7 = nn.Conv2d(inner, inner, 1)
        self.dropout = nn.Dropout(0.5)
        self.score_fr = nn.Conv2d(inner, classes, 1)
        for name, stride, pool, _ in steps:
            if pool is not None:
                self.add_module(f"score_pool{pool}", nn.Conv2d(round(BLOCKS[pool - 1][-1] * width), classes, 1))
            self.add_module(name, _deconvolution(classes, stride))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        pools = [x]
        for number in range(1, len(BLOCKS) + 1):
            pools.append(functional.max_pool2d(self.block(number, pools[-1]), 2, ceil_mode=True))
        y = self.dropout(functional.relu(self.fc6(pools[-1])))
        y = self.score_fr(self.dropout(functional.relu(self.fc7(y))))
        for name, _, pool, offset in self._steps:
            y = self.get_submodule(name)(y)
            if pool is not None:
                skip = self.get_submodule(f"score_pool{pool}")(pools[pool])
                y = y + _cut(skip, offset, y.shape[2], y.shape[3])
        return _cut(y, self._steps[-1][3], height, width)


def _cut(x: Tensor, offset: int, height: int, width: int) -> Tensor:
    return x[:, :, offset : offset + height, offset : offset + width]


def _deconvolution(classes: int, stride: int) -> nn.ConvTranspose2d:
    """Bilinear interpolation, each class for itself, to begin with; without bias."""
    layer = nn.ConvTranspose2d(classes, classes, 2 * stride, stride, bias=False)
    ramp = 1 - (torch.arange(2 * stride) - (stride - 0.5)).abs() / stride
    with torch.no_grad():
        layer.weight.copy_(torch.eye(classes)[:, :, None, None] * torch.outer(ramp, ramp))
    return layer
