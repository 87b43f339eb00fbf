"""EfficientDet: scalable and efficient object detection (arXiv:1911.09070), D0 to D7x, and its Lite family.

Compound scaling sets the input's size, the backbone, the width and depth of the BiFPN and the depth of the heads
(table 1; D7x and the Lite forms as in github.com/google/automl, efficientdet/hparams_config.py). The Lite forms
have ReLU6 for swish, no squeeze-and-excitation, and plain sums in the BiFPN; D6 and beyond have those sums too.

Modules carry the names of github.com/rwightman/efficientdet-pytorch (effdet, tf_efficientdet_*), so that its
checkpoints load. D6 and D7 are one network at two sizes with two sizes of anchors: name the variant to load D7.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgeseg.models import _efficientdet_lite0
from edgeseg.models._backbones.efficientnet import FORMS, EfficientNet, activation, channels_of, norm
from edgeseg.models._bifpn import BiFpn, SeparableConv
from edgeseg.spec import Anchors, ModelSpec, Variant

PRIOR = 0.01  # the share of anchors that fresh weights call an object (arXiv:1708.02002, section 3.3)


@dataclass(frozen=True)
class Scaling:
    """``backbone`` of edgeseg.models._backbones.efficientnet, ``channels`` and ``cells`` of the BiFPN,
    ``repeats`` of the heads' convolutions, whether the BiFPN's sums are ``weighted``."""

    backbone: str
    channels: int
    cells: int
    repeats: int
    weighted: bool = True


SCALING = {
    "d0": Scaling("b0", 64, 3, 3), "d1": Scaling("b1", 88, 4, 3), "d2": Scaling("b2", 112, 5, 3),
    "d3": Scaling("b3", 160, 6, 4), "d4": Scaling("b4", 224, 7, 4), "d5": Scaling("b5", 288, 7, 4),
    "d6": Scaling("b6", 384, 8, 5, False), "d7": Scaling("b6", 384, 8, 5, False),
    "d7x": Scaling("b7", 384, 8, 5, False),
    "lite0": Scaling("lite0", 64, 3, 3, False), "lite1": Scaling("lite1", 88, 4, 3, False),
    "lite2": Scaling("lite2", 112, 5, 3, False), "lite3": Scaling("lite3", 160, 6, 4, False),
    "lite4": Scaling("lite4", 224, 7, 4, False),
}  # fmt: skip


ROOT = math.sqrt(2.0)
LITE_ASPECTS = ((1.0, 1.0), (ROOT, 1 / ROOT), (1 / ROOT, ROOT))  # D0 to D7x were trained with 1.4 and 0.7


def _variant(name: str, size: int, parameters: int, gmacs: float, published: str, anchors: Anchors) -> Variant:
    lite = SCALING[name].backbone.startswith("lite")
    mean, std = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # ImageNet's
    return Variant(
        name=name,
        paper="arXiv:1911.09070",
        size=(size, size),
        classes=90,
        parameters=parameters,
        gmacs=gmacs,
        mean=(127.0, 127.0, 127.0) if lite else mean,
        std=(128.0, 128.0, 128.0) if lite else std,
        published=f"COCO val {published} AP (google/automl)",
        anchors=anchors,
        float_outputs=() if lite else ("box_deltas",),  # docs/int8.md
    )


SPEC = ModelSpec(
    name="efficientdet",
    title="EfficientDet",
    task="detection",
    stride=32,
    variants=(
        _variant("d0", 512, 3_880_067, 2.492, "34.3", Anchors()),
        _variant("d1", 640, 6_625_898, 6.003, "40.2", Anchors()),
        _variant("d2", 768, 8_097_039, 10.832, "43.5", Anchors()),
        _variant("d3", 896, 12_032_296, 24.569, "46.8", Anchors()),
        _variant("d4", 1024, 20_723_675, 54.584, "49.3", Anchors()),
        _variant("d5", 1280, 33_653_315, 134.134, "51.2", Anchors()),
        _variant("d6", 1280, 51_871_782, 224.121, "52.1", Anchors()),
        _variant("d7", 1536, 51_871_782, 322.732, "53.4", Anchors(scale=5.0)),
        _variant("d7x", 1536, 77_147_166, 407.628, "54.4", Anchors(levels=(3, 8))),
        _variant("lite0", 320, 3_243_470, 0.974, "26.4", Anchors(scale=3.0, aspects=LITE_ASPECTS)),
        _variant("lite1", 384, 4_248_318, 1.967, "31.5", Anchors(scale=3.0, aspects=LITE_ASPECTS)),
        _variant("lite2", 448, 5_252_334, 3.371, "35.1", Anchors(scale=3.0, aspects=LITE_ASPECTS)),
        _variant("lite3", 512, 8_350_862, 7.48, "38.8", Anchors(aspects=LITE_ASPECTS)),
        _variant("lite4", 640, 15_130_894, 20.168, "43.2", Anchors(aspects=LITE_ASPECTS)),
    ),
)


def build(classes: int, variant: str = "d0", width: float = 1.0) -> EfficientDet:
    """EfficientDet for ``classes`` with fresh weights; ``width`` scales all channels (for tests)."""
    (found,) = (v for v in SPEC.variants if v.name == variant)
    assert found.anchors is not None
    return EfficientDet(classes, SCALING[variant], found.anchors, width)


def classes_of(state: Mapping[str, Tensor]) -> int | None:
    """Number of classes that a state dict of this network was trained for, if it is one."""
    weights = [state.get(f"{head}.predict.conv_pw.weight") for head in ("class_net", "box_net")]
    if weights[0] is None or weights[1] is None:
        return None
    return int(4 * weights[0].shape[0] // weights[1].shape[0])


def import_state(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The constants of the published EfficientDet-Lite0 as this network's state dict; anything else as it came."""
    return _efficientdet_lite0.convert(state) if _efficientdet_lite0.recognises(state) else state


class Head(nn.Module):
    """Convolutions shared by all levels, with batch normalisations of each level's own → N×A×``outputs``."""

    def __init__(self, channels: int, outputs: int, places: int, repeats: int, levels: int, lite: bool) -> None:
        super().__init__()
        self.outputs = outputs
        self.act = activation(lite)
        self.conv_rep = nn.ModuleList(SeparableConv(channels, channels) for _ in range(repeats))
        self.bn_rep = nn.ModuleList(
            nn.ModuleList(nn.Sequential(OrderedDict(bn=norm(channels))) for _ in range(levels)) for _ in range(repeats)
        )
        self.predict = SeparableConv(channels, outputs * places)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat([self._level(level, x) for level, x in enumerate(maps)], 1)

    def _level(self, level: int, x: Tensor) -> Tensor:
        for conv, norms in zip(self.conv_rep, self.bn_rep, strict=True):
            assert isinstance(norms, nn.ModuleList)
            x = self.act(norms[level](conv(x)))
        found: Tensor = self.predict(x).permute(0, 2, 3, 1)
        return found.reshape(found.shape[0], -1, self.outputs)


class EfficientDet(nn.Module):
    """N×3×H×W float32 → class logits N×A×classes and box deltas N×A×4 (ty tx th tw), raw.

    The A anchors are those of edgeseg.boxes.anchor_boxes: level by level, finest first, row by row."""

    def __init__(self, classes: int, scaling: Scaling, anchors: Anchors, width: float = 1.0) -> None:
        super().__init__()
        form = FORMS[scaling.backbone]
        channels = channels_of(scaling.channels * width)
        levels, places = anchors.levels[1] - anchors.levels[0] + 1, anchors.scales * len(anchors.aspects)
        self.backbone = EfficientNet(form, width)
        self.fpn = BiFpn(self.backbone.channels, channels, scaling.cells, levels, form.lite, scaling.weighted)
        self.class_net = Head(channels, classes, places, scaling.repeats, levels, form.lite)
        self.box_net = Head(channels, 4, places, scaling.repeats, levels, form.lite)
        self._fresh()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.fpn(self.backbone(x))
        return self.class_net(maps), self.box_net(maps)

    def _fresh(self) -> None:
        """As effdet: Glorot in the BiFPN, normal by fan-in in the heads, whose last bias makes objects rare."""
        for convolution in (m for m in self.fpn.modules() if isinstance(m, nn.Conv2d)):
            nn.init.xavier_uniform_(convolution.weight)
        for head in (self.class_net, self.box_net):
            for convolution in (m for m in head.modules() if isinstance(m, nn.Conv2d)):
                nn.init.kaiming_normal_(convolution.weight, nonlinearity="linear")
        for convolution in (m for m in self.modules() if isinstance(m, nn.Conv2d) and m.bias is not None):
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)
        assert self.class_net.predict.conv_pw.bias is not None
        nn.init.constant_(self.class_net.predict.conv_pw.bias, -math.log((1 - PRIOR) / PRIOR))
