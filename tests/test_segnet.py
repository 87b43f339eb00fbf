"""SegNet against its paper and its authors' nets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgeseg.export import BuildRequest, build
from edgeseg.models import _count, segnet
from tests.targets import RUNNABLE

# arXiv:1606.02147, table 3, for 3×640×360, two operations a multiply-add. It does not state the number of classes;
# for Cityscapes' 19 the difference is 0.2 %.
PARAMETERS, GFLOPS = 29.46e6, 286.03


def built(classes: int) -> segnet.SegNet:
    with torch.device("meta"):
        return segnet.build(classes).eval()


def test_size_is_the_published() -> None:
    network = built(19)
    assert _count.parameters(network) == pytest.approx(PARAMETERS, rel=1e-3)
    assert 2 * _count.gmacs(network, (360, 640)) == pytest.approx(GFLOPS, rel=5e-3)


def test_decoder_mirrors_the_encoder() -> None:
    convolutions = {k: m for k, m in built(7).named_modules() if isinstance(m, nn.Conv2d)}
    encoder = {k: m for k, m in convolutions.items() if not k.endswith("_D")}
    assert len(encoder) == len(convolutions) - len(encoder) == 13
    for name, layer in encoder.items():
        mirror = convolutions[f"{name}_D"]
        ends = (7 if name == "conv1_1" else layer.in_channels, layer.out_channels)
        assert (mirror.out_channels, mirror.in_channels) == ends
    normed = {k.removesuffix("_bn") for k, m in built(7).named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert normed == convolutions.keys() - {"conv1_1_D"}


def test_maps_are_those_of_the_authors_net_for_camvid() -> None:
    """``upsample_h`` and ``upsample_w`` of segnet_train.prototxt: 23×30, then 45×60; the rest is doubled."""
    network, sizes = built(11), {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, x, y, name=name: sizes.update({name: (*x[0].shape[2:],)}))
    logits = network(torch.zeros(1, 3, 360, 480, device="meta"))
    sides = [(23, 30), (45, 60), (90, 120), (180, 240), (360, 480)]
    assert [sizes[f"conv{n}_1_D"] for n in range(5, 0, -1)] == sides == [sizes[f"conv{n}_1"] for n in range(5, 0, -1)]
    assert logits.shape == (1, 11, 360, 480)


@settings(max_examples=12)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_every_frame_has_an_answer_of_its_size(height: int, width: int) -> None:
    assert NETWORK(torch.zeros(1, 3, height, width, device="meta")).shape == (1, 3, height, width)


NETWORK = built(3)


@torch.inference_mode()
def test_unpooling_puts_a_maximum_back_where_it_was() -> None:
    """And the first of equals, of which rectified maps are full."""
    network = segnet.build(2).eval()
    pooled, unpooled = {}, {}
    for block, (last, first) in enumerate(zip(("1_2", "2_2", "3_3", "4_3", "5_3"), "12345", strict=True), start=1):
        network.get_submodule(f"conv{last}_bn").register_forward_hook(
            lambda _, __, y, block=block: pooled.update({block: torch.relu(y)})
        )
        network.get_submodule(f"conv{last}_D").register_forward_pre_hook(
            lambda _, x, block=block: unpooled.update({block: x[0]})
        )
        assert first == last[0]
    network(torch.rand(1, 3, 43, 50) * 255)
    for block, x in pooled.items():
        best = nn.functional.max_pool2d(x, 2, ceil_mode=True).repeat_interleave(2, 2).repeat_interleave(2, 3)
        best = best[..., : x.shape[2], : x.shape[3]]
        written = unpooled[block] != 0
        assert written.any() and (x == best)[written].all()
        assert (nn.functional.avg_pool2d(written.float(), 2) <= 0.25).all()


def test_classes_are_read_from_a_checkpoint() -> None:
    assert segnet.classes_of(built(9).state_dict()) == 9 and segnet.classes_of({}) is None


@pytest.mark.parametrize("target", RUNNABLE)
def test_sizes_that_do_not_halve_go_through_every_target(target: str, tmp_path: Path) -> None:
    """Maps of 5 rows pool to 3 and those to 2, as 45 pool to 23 at the paper's size; the build checks the answers."""
    request = BuildRequest(
        "segnet", weights="random:1", classes=11, size=(40, 56), targets=(target,), precisions=("fp32", "fp16", "int8"),
        data="streets:2@40x56:train", out=tmp_path,
    )  # fmt: skip
    assert [path.name for path in build(request)] == [f"segnet-40x56-{target}-{p}" for p in request.precisions]
