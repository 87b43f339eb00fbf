"""What PSPNet and PSANet share, with the names of github.com/hszhao/semseg."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn.functional import interpolate

from edgeseg.models._backbones.resnet import resnet
from edgeseg.models._layers import fcn_head

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, RGB
STAGES = ("layer1", "layer2", "layer3", "layer4")


class Semseg(nn.Module, ABC):
    """Dilated ResNet of output stride 8 with a deep stem → ``context``, which doubles the channels → classes.

    N×3×H×W float32 (RGB, normalised; any H and W) → logits N×classes×H×W float32, in training a pair of such: the
    second comes from the stage before the last and is weighted 0.4 in the loss. Corners of the logits are laid on
    corners of the image, so a feature keeps to the pixel it stands on where H and W are 8k + 1."""

    training_only = ("aux.",)

    def __init__(self, depth: int, classes: int, width: float) -> None:
        super().__init__()
        trunk = resnet(depth, 8, width, deep_stem=True, dilated_entry=True)
        self.channels = trunk.channels[-1]
        self.layer0 = trunk.stem()
        for stage in STAGES:
            self.add_module(stage, trunk.get_submodule(stage))
        self.cls = fcn_head(2 * self.channels, round(512 * width), classes, nn.Dropout2d(0.1))
        self.aux = fcn_head(trunk.channels[-2], round(256 * width), classes, nn.Dropout2d(0.1))

    @abstractmethod
    def context(self, x: Tensor) -> Tensor:
        """The last stage's map, N×C×h×w, with what was found around each position: N×2C×h×w."""

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        size = x.shape[2:]
        maps = [self.layer0(x)]
        for stage in STAGES:
            maps.append(self.get_submodule(stage)(maps[-1]))
        logits = _upsample(self.cls(self.context(maps[-1])), size)
        return (logits, _upsample(self.aux(maps[-2]), size)) if self.training else logits


def _upsample(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    return interpolate(logits, size, mode="bilinear", align_corners=True)
