"""DeepLab-LargeFOV against its paper, and what its grid promises."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from edgeseg.models import deeplab
from edgeseg.models._backbones.vgg import VGG16, DilatedVGG16, initialise

PAPER_PARAMETERS = 20.5e6  # arXiv:1412.7062, table 2: DeepLab-CRF-LargeFOV


def built(classes: int = 21) -> deeplab.DeepLab:
    with torch.device("meta"):
        return deeplab.build(classes).eval()


def test_size_is_the_papers() -> None:
    (stated,) = deeplab.SPEC.variants  # held to the network by the models' contract
    assert stated.parameters == pytest.approx(PAPER_PARAMETERS, rel=1e-3)


def test_field_of_view_is_the_papers() -> None:
    """Section 4.1 and table 2: kernel 3×3, input stride 12, 1024 filters in both fully connected layers."""
    network = built()
    assert (network.fc6.kernel_size, network.fc6.dilation, network.fc6.out_channels) == ((3, 3), (12, 12), 1024)
    assert (network.fc7.kernel_size, network.fc7.out_channels) == ((1, 1), 1024)
    assert network.conv5_1.dilation == network.conv5_3.dilation == (2, 2)  # type: ignore[union-attr]
    assert network.features(torch.zeros(1, 3, 321, 321, device="meta")).shape == (1, 512, 41, 41)


@torch.inference_mode()
def test_dilation_sees_what_striding_saw() -> None:
    """The atrous algorithm (section 3.1): at every second position the last block has the answer of one whose pooling
    halves the map."""
    torch.manual_seed(0)
    dilated, strided = DilatedVGG16(), VGG16()
    initialise(dilated)
    strided.load_state_dict(dilated.state_dict())
    x = torch.rand(1, 512, 17, 21)
    dense = dilated.block(5, functional.max_pool2d(x, 3, 1, 1))
    sparse = strided.block(5, functional.max_pool2d(x, 3, 2, 1))
    assert torch.allclose(dense[..., ::2, ::2], sparse, atol=1e-4 * float(sparse.abs().max()))


@settings(max_examples=12)
@given(height=st.integers(1, 80), width=st.integers(1, 80))
def test_every_frame_has_an_answer_of_its_size(height: int, width: int) -> None:
    x = torch.zeros(1, 3, height, width, device="meta")
    grid = deeplab.on_grid(x).shape[2:]
    assert [n % 8 for n in grid] == [1, 1] and all(0 <= g - n < 8 for g, n in zip(grid, x.shape[2:], strict=True))
    assert NETWORK(x).shape == (1, 21, height, width)


NETWORK = built()


@torch.inference_mode()
def test_scores_stand_on_every_eighth_pixel() -> None:
    scores = torch.rand(1, 4, 6, 9, generator=torch.Generator().manual_seed(0))
    logits = deeplab.off_grid(scores, 41, 60)
    assert logits.shape == (1, 4, 41, 60)
    assert torch.allclose(logits[..., ::8, ::8], scores[..., :, :8], atol=1e-6)
    between = (scores[..., :-1, :8] + scores[..., 1:, :8]) / 2
    assert torch.allclose(logits[..., 4::8, ::8], between, atol=1e-6)


@torch.inference_mode()
def test_fresh_weights_keep_the_activations_scale() -> None:
    torch.manual_seed(0)
    logits = deeplab.build(5).eval()(torch.randn(1, 3, 33, 33) * 60)
    assert 6 < logits.std() < 600


def test_classes_are_read_from_a_checkpoint() -> None:
    assert deeplab.classes_of(built(9).state_dict()) == 9 and deeplab.classes_of({}) is None
