"""U-Net: convolutional networks for biomedical image segmentation (arXiv:1505.04597).

- ``paper``: figure 1: 23 convolutions without padding, skip connections cropped to the middle. What the borders lose
  is made up for as in the paper's overlap-tile strategy (figure 2): the frame is continued beyond its border by its
  mirror image, so that the valid output covers it. A frame of 388×388 becomes the figure's 572×572.
- ``same``: the same layers with padded convolutions, which costs a fifth less on such a frame. Frames that are no
  multiple of 16 are continued by their mirror image at the right and the bottom.

Both have the same state dict: a checkpoint does not tell them apart, and ``paper`` is taken unless ``same`` is asked
for. Input here is RGB, where the paper's is one channel: 1 152 parameters more. Weights are drawn as in section 3.

The modules carry the names of github.com/jvanvugt/pytorch-unet (``down_path.0.block.0``, ``up_path.0.up``, ``last``)
with depth 5, 64 maps at the top, no batch normalisation and up-convolutions, its defaults for the paper's network.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeseg.errors import InputError
from edgeseg.models._backbones.vgg import initialise
from edgeseg.spec import ModelSpec, Variant

SPEC = ModelSpec(
    name="unet",
    title="U-Net",
    task="semantic",
    stride=1,
    variants=(
        Variant(
            name="paper",
            paper="arXiv:1505.04597",
            size=(388, 388),
            classes=2,
            parameters=31_031_810,
            gmacs=150.803,
            published="ISBI cell tracking 2015: PhC-U373 92.0, DIC-HeLa 77.6 IoU (paper)",
        ),
        Variant(
            name="same",
            paper="arXiv:1505.04597",
            size=(512, 512),
            classes=2,
            parameters=31_031_810,
            gmacs=192.686,
        ),
    ),
)

CHANNELS = (64, 128, 256, 512, 1024)
SCALE = 2 ** (len(CHANNELS) - 1)  # of the deepest level
MARGIN = 92  # what the convolutions of all levels take from each side


def build(classes: int, variant: str = "paper") -> UNet:
    """U-Net with ``classes`` output channels and fresh weights."""
    return UNet(classes, padded=variant == "same")


def classes_of(state: Mapping[str, Tensor]) -> int | None:
    """Number of classes that a state dict of this network was trained for, if it is one."""
    weight = state.get("last.weight")
    return None if weight is None or "down_path.0.block.0.weight" not in state else int(weight.shape[0])


class Block(nn.Module):
    """Two 3×3 convolutions with ReLUs; dropout, where there is any, has the last word."""

    def __init__(self, inputs: int, outputs: int, padding: int, dropout: bool = False) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=padding), nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=padding), nn.ReLU(inplace=True),
        )  # fmt: skip
        if dropout:
            self.block.append(nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return out


class Up(nn.Module):
    """2×2 up-convolution, joined with the middle of the contracting path's map, and two convolutions."""

    def __init__(self, inputs: int, outputs: int, padding: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
        nn.init.normal_(self.up.weight, std=(2 / inputs) ** 0.5)  # each position sees one kernel element
        assert self.up.bias is not None
        nn.init.zeros_(self.up.bias)
        self.conv_block = Block(inputs, outputs, padding)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        out: Tensor = self.conv_block(torch.cat((x, _middle(skip, x.shape[2], x.shape[3])), 1))
        return out


class UNet(nn.Module):
    """N×3×H×W float32 (RGB / 255; H and W at least 2) → logits N×classes×H×W float32.

    Raises:
        InputError: a frame of one pixel's height or width, which has no mirror image.
    """

    def __init__(self, classes: int, padded: bool = False) -> None:
        super().__init__()
        self.padded = padded
        self.down_path, self.up_path = nn.ModuleList(), nn.ModuleList()
        for inputs, outputs in zip((3, *CHANNELS), CHANNELS, strict=False):
            self.down_path.append(Block(inputs, outputs, int(padded), dropout=outputs in CHANNELS[-2:]))
        for outputs in CHANNELS[-2::-1]:
            self.up_path.append(Up(2 * outputs, outputs, int(padded)))
        self.last = nn.Conv2d(CHANNELS[0], classes, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        (top, bottom), (left, right) = (self._margins(n) for n in (height, width))
        logits = self.core(mirrored(x, left, right, top, bottom))
        return logits[:, :, :height, :width] if logits.shape[2:] != x.shape[2:] else logits

    def core(self, x: Tensor) -> Tensor:
        """Figure 1. Without padding N×3×(16h+124)×(16w+124) → N×classes×(16h−60)×(16w−60)."""
        maps = [self.down_path[0](x)]
        for level in self.down_path[1:]:
            maps.append(level(functional.max_pool2d(maps[-1], 2)))
        y = maps.pop()
        for level in self.up_path:
            y = level(y, maps.pop())
        logits: Tensor = self.last(y)
        return logits

    def _margins(self, length: int) -> tuple[int, int]:
        """How far a frame's side is continued before and after, so that the core's answer covers it."""
        if self.padded:
            return 0, -length % SCALE
        covered = -(-(length + 60) // SCALE) * SCALE - 60
        return MARGIN, MARGIN + covered - length


def mirrored(x: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """``x`` continued beyond its border by its mirror image, as often as it takes; the edge is not repeated."""
    if min(x.shape[2:]) < 2:
        raise InputError(f"U-Net mirrors the frame: {x.shape[2]}x{x.shape[3]} is too small, give at least 2x2")
    margins: tuple[int, ...] = (left, right, top, bottom)
    frame = _reach(x)
    while any(margins):
        # Only the frame's own edges and their images, whole frames away, may be mirrored at once more.
        step = [m if m <= n else n - n % f for m, n, f in zip(margins, _reach(x), frame, strict=True)]
        x = functional.pad(x, step, mode="reflect")
        margins = tuple(m - s for m, s in zip(margins, step, strict=True))
    return x


def _reach(x: Tensor) -> tuple[int, int, int, int]:
    """How far one mirror image reaches: left, right, top, bottom."""
    height, width = x.shape[2:]
    return width - 1, width - 1, height - 1, height - 1


def _middle(x: Tensor, height: int, width: int) -> Tensor:
    if x.shape[2:] == (height, width):
        return x
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, top : top + height, left : left + width]
