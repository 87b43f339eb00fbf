"""PSPNet against its published sizes, and its static pooling against PyTorch's adaptive one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

from edgeseg.export.capture import capture
from edgeseg.models import _count, pspnet

# github.com/hszhao/semseg, its own modules counted with their auxiliary head, for as many classes as we state.
SEMSEG = {"resnet50": 49_180_908, "resnet101": 68_073_706}
# Open Model Zoo, pspnet-pytorch: ResNet-50, 21 classes, 512×512, batch normalisations folded, no auxiliary head.
ZOO_PARAMETERS, ZOO_GFLOPS = 46.5827e6, 357.1719


def test_sizes_are_semsegs() -> None:
    assert {v.name: v.parameters for v in pspnet.SPEC.variants} == SEMSEG


def test_size_is_open_model_zoos_but_for_the_stem() -> None:
    """Theirs comes from MMSegmentation, whose deep stem is half as wide: 32, 32, 64 in place of 64, 64, 128."""
    with torch.device("meta"):
        network = pspnet.build(21)
        del network.aux
    wide, narrow = (_stem(w) for w in (64, 32))
    folded = (
        sum(m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d)) - 128
    )  # the stem's 128 fewer
    assert _count.parameters(network) - wide[0] + narrow[0] - folded == pytest.approx(ZOO_PARAMETERS, rel=1e-5)
    assert _count.gmacs(network, (512, 512)) - wide[1] + narrow[1] == pytest.approx(ZOO_GFLOPS / 2, rel=2e-3)


def _stem(w: int) -> tuple[int, float]:
    """Parameters and 10⁹ multiply-adds, at 512×512, of a stem and of the first block's layers that read it."""
    convolutions, readers = 3 * w * 9 + w * w * 9 + w * 2 * w * 9, 2 * w * (64 + 256)
    return convolutions + readers + 2 * 4 * w, (convolutions * 256**2 + readers * 128**2) / 1e9


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 8))
def test_static_pooling_is_adaptive_pooling(height: int, width: int, bins: int) -> None:
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height * 71 + width))
    assert torch.allclose(pspnet.adaptive_average(x, bins), adaptive_avg_pool2d(x, bins), atol=1e-6)


@pytest.mark.parametrize("size", [(45, 60), (64, 64), (1, 5)])
def test_pooling_is_exported_as_what_every_engine_has(size: tuple[int, int]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 1), pspnet.PyramidPooling(8)).eval()
    model = capture(network, size)
    kinds = {n.op_type for n in model.graph}
    assert kinds <= {"Conv", "Relu", "Resize", "Concat", "ReduceMean", "AveragePool", "Slice"}
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        want = network(x).numpy()
    assert np.abs(session.run(None, {"x": x.numpy()})[0] - want).max() <= 1e-5


def test_sizes_that_divide_are_one_pooling_a_level() -> None:
    kinds = [n.op_type for n in capture(pspnet.AdaptiveAverage(6), (60, 48)).graph]
    assert kinds == ["AveragePool"]


def test_auxiliary_head_is_for_training_only() -> None:
    network = pspnet.build(4, width=0.125)
    logits, auxiliary = network.train()(torch.rand(2, 3, 41, 50))
    assert logits.shape == auxiliary.shape == (2, 4, 41, 50)
    calls: list[object] = []
    network.aux.register_forward_hook(lambda *call: calls.append(call))
    with torch.inference_mode():
        network.eval()(torch.rand(1, 3, 41, 50))
    assert not calls


def test_state_dict_is_semsegs() -> None:
    state = pspnet.build(4, width=0.125).state_dict()
    assert {
        "layer0.0.weight",
        "layer0.7.running_var",
        "layer1.0.downsample.0.weight",
        "ppm.features.3.1.weight",
    } <= set(state)
    assert {"ppm.features.0.2.bias", "cls.0.weight", "cls.4.bias", "aux.4.weight"} <= set(state)
    assert pspnet.classes_of(state) == 4 and pspnet.classes_of({"cls.4.bias": torch.zeros(4)}) is None
