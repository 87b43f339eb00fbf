"""U-Net against its paper."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeseg.errors import InputError
from edgeseg.export.capture import capture
from edgeseg.models import _count, unet

# The paper states no count. github.com/milesial/Pytorch-UNet is its network for RGB and two classes, with padding and
# batch normalisation: 31.04 M parameters and, by thop's count, 54.74·10⁹ multiply-adds at 256×256.
WITH_BATCH_NORM, THOP_256 = 31_037_698, 54.74
MAPS = (64, 128, 256, 512, 1024, 512, 256, 128, 64)  # of the paper's figure 1, two convolutions each


def built(variant: str, classes: int = 2) -> unet.UNet:
    with torch.device("meta"):
        return unet.build(classes, variant).eval()


def test_size_is_that_of_its_best_known_implementation() -> None:
    """Which has two numbers for each map in the place of a bias. thop takes an up-convolution's whole kernel for each
    position of its output, four times the work there is."""
    assert {v.parameters for v in unet.SPEC.variants} == {WITH_BATCH_NORM - 2 * sum(MAPS)}
    up_convolutions = sum(2 * n * n * 4 * (16 * 512 // n) ** 2 for n in MAPS[5:]) / 1e9
    assert _count.gmacs(built("same"), (256, 256)) + 3 * up_convolutions == pytest.approx(THOP_256, rel=3e-3)


def test_layers_are_the_papers() -> None:
    layers = [m for m in built("paper").modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(layers) == 23 and all(layer.bias is not None for layer in layers)
    threes = [layer.out_channels for layer in layers if layer.kernel_size == (3, 3)]
    assert threes == [n for n in MAPS for _ in range(2)]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in built("paper").modules())


def test_maps_are_figure_1s() -> None:
    network, sides = built("paper"), []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(lambda _, __, y: sides.append(y.shape[3]))
    network(torch.zeros(1, 3, 388, 388, device="meta"))
    down = [570, 568, 282, 280, 138, 136, 66, 64, 30, 28]
    assert sides == [*down, 56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388, 388]


@pytest.mark.parametrize("variant", ["paper", "same"])
@settings(max_examples=25)
@given(height=st.integers(2, 90), width=st.integers(2, 90))
def test_every_frame_has_an_answer_of_its_size(variant: str, height: int, width: int) -> None:
    assert NETWORKS[variant](torch.zeros(1, 3, height, width, device="meta")).shape == (1, 2, height, width)


NETWORKS = {variant: built(variant) for variant in ("paper", "same")}


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(2, 7), st.integers(2, 7)),
    margins=st.tuples(*[st.integers(0, 25)] * 4),
)
def test_border_is_the_mirror_image(size: tuple[int, int], margins: tuple[int, int, int, int]) -> None:
    x = np.random.default_rng(0).random((1, 2, *size), np.float32)
    left, right, top, bottom = margins
    want = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), mode="reflect")
    assert np.array_equal(unet.mirrored(torch.from_numpy(x), left, right, top, bottom).numpy(), want)


def test_a_frame_without_mirror_image_is_refused() -> None:
    with pytest.raises(InputError, match="1x8 is too small"):
        unet.build(2)(torch.zeros(1, 3, 1, 8))


@torch.inference_mode()
def test_tiles_join_without_seams() -> None:
    """Figure 2: a tile with its surroundings gets the answer that the whole image gets there."""
    torch.manual_seed(0)
    network = unet.build(2).eval()
    image = torch.rand(1, 3, 204, 220)
    whole, tile = network.core(image), network.core(image[..., 16:])
    assert whole.shape[2:] == (20, 36) and tile.shape[2:] == (20, 20)
    assert torch.allclose(whole[..., 16:], tile, atol=1e-5)
    assert 0.1 < whole.std() < 10  # fresh weights keep the activations' scale


@torch.inference_mode()
def test_the_frame_stands_in_the_middle_of_its_mirror_image() -> None:
    network = unet.build(2).eval()
    seen: list[Tensor] = []
    network.down_path[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    frame = torch.rand(1, 3, 36, 20)
    assert torch.equal(network(frame), network.core(seen[0]))
    assert torch.equal(seen[0][..., 92:128, 92:112], frame) and seen[0].shape[2:] == (220, 204)


def test_both_variants_share_weights() -> None:
    states = [built(variant, 5).state_dict() for variant in ("paper", "same")]
    assert {k: v.shape for k, v in states[0].items()} == {k: v.shape for k, v in states[1].items()}
    assert unet.classes_of(states[0]) == 5 and unet.classes_of({"last.weight": torch.zeros(5, 64, 1, 1)}) is None


def test_crops_are_constants_in_the_graph() -> None:
    """Where sizes are open, the exporter computes each crop from the maps' shapes: 218 nodes instead of 57."""
    torch.manual_seed(0)
    network = unet.build(2).eval()
    graph = capture(network, (36, 52))
    operators = Counter(node.op_type for node in graph.graph)
    assert operators["Slice"] <= 8 + 2  # four crops, and that of the answer, each along two axes
    assert set(operators) == {"Conv", "Relu", "Slice", "MaxPool", "ConvTranspose", "Concat", "Pad"}
    x = torch.rand(1, 3, 36, 52)
    with torch.inference_mode():
        wanted = network(x).numpy()
    session = ort.InferenceSession(ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert np.allclose(got, wanted, atol=1e-5)
