"""FCN against its paper, its authors' nets, and VGG16."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from edgeseg.models import _count, fcn
from edgeseg.models._backbones.vgg import BLOCKS, VGG16, layers

VARIANTS = [v.name for v in fcn.SPEC.variants]
PAPER_PARAMETERS = 134e6  # arXiv:1411.4038, table 1: FCN-VGG16. arXiv:1412.7062, table 2, has 134.3 M for the same
VGG16_GMACS = 15.3  # at 224×224: arXiv:1512.03385, section 4.1, with three fully connected layers


def built(variant: str, width: float = 0.125) -> fcn.FCN:
    with torch.device("meta"):
        return fcn.build(21, variant, width).eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_size_is_the_papers(variant: str) -> None:
    """Whose count leaves out the upsampling, which the authors keep fixed."""
    network = built(variant, 1.0)
    upsampling = sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.ConvTranspose2d))
    stated = next(v for v in fcn.SPEC.variants if v.name == variant)
    assert stated.parameters - upsampling == pytest.approx(134.3e6, rel=1e-3)
    assert stated.parameters - upsampling == pytest.approx(PAPER_PARAMETERS, rel=3e-3)


def test_convolutions_cost_what_vgg16s_do() -> None:
    class Trunk(VGG16):
        def forward(self, x: Tensor) -> Tensor:
            for number in range(1, 6):
                x = functional.max_pool2d(self.block(number, x), 2)
            return x

    fully_connected = (25_088 * 4096 + 4096**2 + 4096 * 1000) / 1e9
    with torch.device("meta"):
        trunk = Trunk()
    assert trunk(torch.zeros(1, 3, 224, 224, device="meta")).shape == (1, 512, 7, 7)
    assert _count.gmacs(trunk, (224, 224)) + fully_connected == pytest.approx(VGG16_GMACS, rel=0.015)


@pytest.mark.parametrize("variant", VARIANTS)
def test_crops_lay_scores_on_the_pixels_they_were_seen_at(variant: str) -> None:
    """A position i of a map looks at the frame's pixel a·i + b. Summed maps and the frame must agree in b."""
    network, seen = built(variant), {}
    spacing, at = 1, 1.0 - network.conv1_1.padding[0]  # type: ignore[union-attr, index]
    for number in range(1, 6):
        at += spacing * 0.5
        spacing *= 2
        seen[number] = at
    at += spacing * (network.fc6.kernel_size[0] - 1) / 2
    for name, stride, pool, offset in fcn.STEPS[variant]:
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.ConvTranspose2d) and layer.stride == (stride, stride)
        spacing //= stride
        at -= spacing * (layer.kernel_size[0] - 1) / 2
        assert at == (-offset if pool is None else seen[pool] + spacing * offset)
    assert spacing == 1


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=12)
@given(height=st.integers(1, 150), width=st.integers(1, 150))
def test_every_frame_has_an_answer_of_its_size(variant: str, height: int, width: int) -> None:
    assert NETWORKS[variant](torch.zeros(1, 3, height, width, device="meta")).shape == (1, 21, height, width)


NETWORKS = {variant: built(variant) for variant in VARIANTS}


@torch.inference_mode()
@pytest.mark.parametrize("stride", [2, 8, 16, 32])
def test_upsampling_starts_as_bilinear(stride: int) -> None:
    scores = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    want = functional.interpolate(scores, scale_factor=stride, mode="bilinear", align_corners=False)
    half = stride // 2
    inner = slice(half, -half)  # the border has no neighbours to be interpolated with
    got = fcn._deconvolution(3, stride)(scores)[..., half:-half, half:-half]
    assert torch.allclose(got[..., inner, inner], want[..., inner, inner], atol=1e-6)


@torch.inference_mode()
def test_scores_of_all_three_depths_are_summed() -> None:
    torch.manual_seed(0)
    network = fcn.build(4, width=0.125).eval()
    x = torch.randn(1, 3, 40, 56) * 60
    whole = network(x)
    parts = []
    for kept in ("score_fr", "score_pool4", "score_pool3"):
        alone = fcn.build(4, width=0.125).eval()
        alone.load_state_dict(network.state_dict())
        for name in {"score_fr", "score_pool4", "score_pool3"} - {kept}:
            nn.init.zeros_(alone.get_submodule(name).weight)  # type: ignore[arg-type]
        parts.append(alone(x))
    assert all(part.abs().max() > 0.01 * whole.abs().max() for part in parts)
    assert torch.allclose(sum(parts), whole, atol=1e-5 * float(whole.abs().max()))


def test_state_dict_is_the_authors() -> None:
    names = {k.rsplit(".", 1)[0] for k in built("8s").state_dict()}
    vgg = {name for block in range(1, len(BLOCKS) + 1) for name in layers(block)}
    scores = {"score_fr", "score_pool4", "score_pool3"}
    assert names == vgg | scores | {"fc6", "fc7", "upscore2", "upscore_pool4", "upscore8"}
    assert fcn.classes_of(built("8s").state_dict()) == 21 and fcn.classes_of({}) is None
