"""PSANet against its published sizes, and its static attention against loops over all pairs of positions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeseg.export.capture import capture
from edgeseg.models import psanet

# github.com/hszhao/semseg, its own modules counted with their auxiliary head, for as many classes as we state. No
# other source counts them with these masks, and none states multiply-adds.
SEMSEG = {"resnet50-465": 53_273_836, "resnet101-465": 72_166_634, "resnet101-709": 76_711_654}


def test_sizes_are_semsegs() -> None:
    assert {v.name: v.parameters for v in psanet.SPEC.variants} == SEMSEG


@pytest.mark.parametrize("variant", psanet.SPEC.variants, ids=lambda v: v.name)
def test_masks_are_over_completed_at_the_trained_size(variant) -> None:  # type: ignore[no-untyped-def]
    shrunk = ((variant.size[0] - 1) // 8 + 1 - 1) // psanet.SHRINK + 1
    assert psanet.FORMS[variant.name][1] == 2 * shrunk - 1


def loops(masks: Tensor, side: int) -> Tensor:
    """What position i says of position j, one pair at a time; offsets without a channel stay zero."""
    n, _, h, w = masks.shape
    found, half = torch.zeros(n, h * w, h * w), side // 2
    for i in range(h * w):
        for j in range(h * w):
            dy, dx = j // w - i // w + half, j % w - i % w + half
            if 0 <= dy < side and 0 <= dx < side:
                found[:, i, j] = masks[:, dy * side + dx, i // w, i % w]
    return found


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 6).map(lambda k: 2 * k + 1), st.integers(1, 2))
def test_relations_are_those_of_all_pairs(height: int, width: int, side: int, batch: int) -> None:
    seed = torch.Generator().manual_seed(height * 50 + width)
    masks = torch.randn(batch, side * side, height, width, generator=seed)
    assert torch.equal(psanet.relations(masks, side), loops(masks, side))


def brute_force(psa: psanet.PointwiseAttention, x: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Both branches by their definition (equations 3 to 8 of the paper), on a map too small to shrink by much."""
    size = [(length - 1) // psanet.SHRINK + 1 for length in x.shape[2:]]

    def shrunk(suffix: str) -> tuple[Tensor, Tensor]:
        reduced = psa.get_submodule(f"reduce{suffix}")(x)
        reduced = nn.functional.interpolate(reduced, size, mode="bilinear", align_corners=True)
        return reduced[0].flatten(1), loops(psa.get_submodule(f"attention{suffix}")(reduced), side)[0]

    (features, says), (sent, told) = shrunk(""), shrunk("_p")
    collected, distributed = torch.zeros_like(features), torch.zeros_like(sent)
    for i in range(features.shape[1]):
        weights = says[i].exp() / says[i].exp().sum()  # what i wants of every j
        arriving = told[:, i].exp() / told[:, i].exp().sum()  # what every j sends to i
        for j in range(features.shape[1]):
            collected[:, i] += weights[j] * features[:, j]
            distributed[:, i] += arriving[j] * sent[:, j]
    return collected.view(1, -1, *size), distributed.view(1, -1, *size)


@pytest.mark.parametrize("size", [(9, 13), (8, 6), (5, 5), (1, 1)])
@pytest.mark.parametrize("side", [7, 13, 5])
def test_attention_is_its_definition(size: tuple[int, int], side: int) -> None:
    torch.manual_seed(0)
    psa, x = psanet.PointwiseAttention(6, 4, side).eval(), torch.randn(1, 6, *size)
    with torch.inference_mode():
        collected, distributed = brute_force(psa, x, side)
        assert torch.allclose(psa._branch(x, "", collect=True), collected, atol=1e-5)
        assert torch.allclose(psa._branch(x, "_p", collect=False), distributed, atol=1e-5)
        want = psa.proj(torch.cat((collected, distributed), 1))
        want = nn.functional.interpolate(want, size, mode="bilinear", align_corners=True)
        assert torch.allclose(psa(x), torch.cat((x, want), 1), atol=1e-5)


@pytest.mark.parametrize(("size", "pads"), [((9, 13), False), ((10, 16), True)])
def test_attention_is_exported_as_what_every_engine_has(size: tuple[int, int], pads: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 1), psanet.PointwiseAttention(6, 4, 13)).eval()
    model = capture(network, size)
    layers, moves = {"Conv", "Relu", "Resize", "Concat", "Softmax", "MatMul"}, {"Reshape", "Transpose", "Slice"}
    assert {n.op_type for n in model.graph} == layers | moves | ({"Pad"} if pads else set())
    assert all(len(v.shape or ()) <= 4 for n in model.graph for v in n.outputs)
    x = torch.randn(1, 3, *size)
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        want = network(x).numpy()
    assert np.abs(session.run(None, {"x": x.numpy()})[0] - want).max() <= 1e-5


def test_any_size_gives_logits_of_that_size() -> None:
    network = psanet.build(3, width=0.125)
    for size in ((1, 1), (33, 50)):
        with torch.inference_mode():
            assert network.eval()(torch.rand(1, 3, *size)).shape == (1, 3, *size)
    logits, auxiliary = network.train()(torch.rand(2, 3, 33, 50))
    assert logits.shape == auxiliary.shape == (2, 3, 33, 50)


def test_state_dict_is_semsegs() -> None:
    state = psanet.build(4, width=0.125).state_dict()
    branches = {
        f"psa.{part}{p}.{layer}.weight" for p in ("", "_p") for part in ("reduce", "attention") for layer in (0, 1)
    }
    assert branches | {"psa.attention.3.weight", "psa.attention_p.3.weight", "psa.proj.1.bias", "aux.0.weight"} <= set(
        state
    )
    assert psanet.classes_of(state) == 4 and psanet.classes_of({"cls.4.bias": torch.zeros(4)}) is None
