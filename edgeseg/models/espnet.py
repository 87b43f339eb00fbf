"""ESPNet: efficient spatial pyramid of dilated convolutions for semantic segmentation (arXiv:1803.06815).

The modules carry the names of the authors' checkpoints (github.com/sacmehta/ESPNet, commit afe71c3), which load
unchanged. Every variant has p = 2 ESP modules at a quarter of the input's size; q of them at an eighth is in its
name. The paper's figure 4 leads from A to the full network:

- ``a-q8``: ESPNet-A, one convolution and ESP modules; logits at an eighth of the input's size.
- ``b-q8``: ESPNet-B, A with the output of each level's strided ESP module joined to that of the level's last.
- ``c-q8``, ``c-q5``, ``c-q3``: ESPNet-C, B with the image, pooled down, joined in. The published encoders.
- ``q8``, ``q5``, ``q3``: ESPNet, which is C and a decoder (reduce, upsample, merge) up to the input's size.
- ``camvid-q8``: ESPNet as the authors' training code has it and their CamVid checkpoint; ``q8`` is as their test
  code has it and their Cityscapes checkpoints. They differ in the last long skip connection: level 1 joined with
  the image and normalised (19 feature maps), or level 1 alone (16).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeseg.spec import ModelSpec, Variant

P = 2  # ESP modules at level 2
BRANCHES = 5  # of an ESP module, with dilations 1, 2, 4, 8, 16
Triple = tuple[float, float, float]


def _variant(
    name: str, parameters: int, gmacs: float, published: str = "", *, size: tuple[int, int] = (512, 1024),
    classes: int = 20, mean: Triple = (72.3923111, 82.90893555, 73.15840149),
    std: Triple = (45.3192215, 46.15289307, 44.91483307),
) -> Variant:  # fmt: skip
    """A variant with Cityscapes' size, classes and statistics; the authors divide by ``std`` and then by 255 too."""
    scaled = (std[0] * 255, std[1] * 255, std[2] * 255)
    return Variant(name, "arXiv:1803.06815", size, classes, parameters, gmacs, mean, scaled, "BGR", published)


_CAMVID = _variant(
    "camvid-q8",
    354_517,
    1.335,
    "CamVid test 55.6 mIoU (authors' repository)",
    size=(360, 480),
    classes=12,
    mean=(110.33105, 108.40889, 105.03322),
    std=(72.12569, 72.69077, 69.90434),
)

SPEC = ModelSpec(
    name="espnet",
    title="ESPNet",
    task="semantic",
    stride=8,
    variants=(
        _variant("q8", 364_569, 4.709, "Cityscapes test 60.3 mIoU (paper)"),
        _variant("q5", 267_417, 3.923),
        _variant("q3", 202_649, 3.399),
        _CAMVID,
        _variant("c-q8", 349_449, 3.470),
        _variant("c-q5", 252_297, 2.684),
        _variant("c-q3", 187_529, 2.159),
        _variant("b-q8", 348_384, 3.454),
        _variant("a-q8", 330_272, 3.315),
    ),
)


def build(classes: int, variant: str = "q8") -> nn.Module:
    """ESPNet or one of its encoders, with ``classes`` output channels and fresh weights."""
    kind, _, repeats = variant.rpartition("q")
    if kind in ("a-", "b-", "c-"):
        return Encoder(classes, int(repeats), shared=kind != "a-", reinforced=kind == "c-")
    return ESPNet(classes, int(repeats), reinforced=kind == "camvid-")


def classes_of(state: Mapping[str, Tensor]) -> int | None:
    """Number of classes that a state dict of this network was trained for, if it is one."""
    keys = ("encoder.classifier.conv.weight", "classifier.conv.weight")
    return next((int(state[key].shape[0]) for key in keys if key in state), None)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Conv(nn.Module):
    """Convolution without bias; an odd ``kernel`` at stride 1 keeps the map's size."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 * dilation, dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class NormAct(nn.Module):
    """Batch normalisation → PReLU with a slope per feature map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn, self.act = _norm(channels), nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(x))
        return out


class ConvNormAct(NormAct):
    """Convolution → batch normalisation → PReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(outputs)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.conv(x))


class Pyramid(nn.Module):
    """What ESP modules share: reduce, split into dilated convolutions, hierarchical feature fusion (section 3).

    Branches are summed from dilation 2 upwards and joined, so that dilation leaves no grid. The first takes the
    feature maps that do not divide by their number; with fewer than five outputs there are as many branches.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        branches = min(BRANCHES, outputs)
        inner = outputs // branches
        self.c1 = Conv(inputs, inner, kernel, stride)
        self._dilated = [f"d{2**i}" for i in range(branches)]
        for i, name in enumerate(self._dilated):
            width = inner if i else outputs - (branches - 1) * inner
            self.add_module(name, Conv(inner, width, 3, dilation=2**i))

    def spread(self, x: Tensor) -> Tensor:
        reduced = self.c1(x)
        first, *rest = (self.get_submodule(name)(reduced) for name in self._dilated)
        return torch.cat((first, *accumulate(rest)), 1)


class StridedESP(Pyramid):
    """Halves the map: the reduction is a 3×3 convolution with stride 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, 2)
        self.bn, self.act = _norm(outputs), nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(self.spread(x)))
        return out


class ESP(Pyramid):
    """Keeps the map's size; added to its input where the number of feature maps stays too (figure 1)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1, 1)
        self.bn = NormAct(outputs)
        self.residual = inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(x + self.spread(x) if self.residual else self.spread(x))
        return out


class Encoder(nn.Module):
    """ESPNet-A; ``shared``: B; and ``reinforced``: C. N×3×H×W float32 → logits N×classes×H/8×W/8 float32."""

    def __init__(self, classes: int, q: int, shared: bool = True, reinforced: bool = True) -> None:
        super().__init__()
        image, half, quarter, eighth = 3 * reinforced, 16, 64 * (1 + shared), 128 * (1 + shared)
        self.reinforced = reinforced
        self.level1 = ConvNormAct(3, half, 3, 2)
        self.b1 = NormAct(half + image) if reinforced else None
        self.level2_0 = StridedESP(half + image, 64)
        self.level2 = nn.Sequential(*(ESP(64, 64) for _ in range(P)))
        self.b2 = NormAct(quarter + image) if shared else None
        self.level3_0 = StridedESP(quarter + image, 128)
        self.level3 = nn.Sequential(*(ESP(128, 128) for _ in range(q)))
        self.b3 = NormAct(eighth) if shared else None
        self.classifier = Conv(eighth, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.levels(x)[-1]

    def levels(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Level 1 alone and as level 2 takes it, level 2 as level 3 takes it, and the logits."""
        image2 = functional.avg_pool2d(x, 3, 2, 1) if self.reinforced else None
        image4 = None if image2 is None else functional.avg_pool2d(image2, 3, 2, 1)
        level1 = self.level1(x)
        joined1 = _join(self.b1, level1, image2)
        strided2 = self.level2_0(joined1)
        joined2 = _join(self.b2, self.level2(strided2), strided2, image4)
        strided3 = self.level3_0(joined2)
        # The order of the published weights: here the strided module's output stands first.
        joined3 = self.level3(strided3) if self.b3 is None else _join(self.b3, strided3, self.level3(strided3))
        return level1, joined1, joined2, self.classifier(joined3)


def _join(norm: nn.Module | None, x: Tensor, *others: Tensor | None) -> Tensor:
    """``x`` joined with the others and normalised; ``x`` itself in a network without that connection."""
    if norm is None:
        return x
    out: Tensor = norm(torch.cat((x, *(o for o in others if o is not None)), 1))
    return out


class ESPNet(nn.Module):
    """N×3×H×W float32 (H and W multiples of 8) → logits N×classes×H×W float32; ``reinforced``: ``camvid-q8``."""

    def __init__(self, classes: int, q: int, reinforced: bool = False) -> None:
        super().__init__()
        self.reinforced = reinforced
        self.encoder = Encoder(classes, q)
        self.level3_C = Conv(131, classes, 1)
        self.br = _norm(classes)
        self.conv = ConvNormAct(classes + (19 if reinforced else 16), classes, 3)
        self.up_l3 = nn.Sequential(_double(classes))
        self.combine_l2_l3 = nn.Sequential(NormAct(2 * classes), ESP(2 * classes, classes))
        self.up_l2 = nn.Sequential(_double(classes), NormAct(classes))
        self.classifier = _double(classes)

    def forward(self, x: Tensor) -> Tensor:
        level1, joined1, joined2, coarse = self.encoder.levels(x)
        quarter = torch.cat((self.level3_C(joined2), self.up_l3(self.br(coarse))), 1)
        half = self.up_l2(self.combine_l2_l3(quarter))
        logits: Tensor = self.classifier(self.conv(torch.cat((half, joined1 if self.reinforced else level1), 1)))
        return logits


def _double(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False)
