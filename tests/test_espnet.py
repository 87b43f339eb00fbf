"""ESPNet against its paper and its authors' figures, and the seven published checkpoints against their outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from edgeseg import models
from edgeseg.datasets import open_dataset
from edgeseg.metrics import confusion, miou
from edgeseg.models import _count, espnet
from edgeseg.models._reference import Reference

# The authors' own table: 0.364 M parameters (the paper's figure too) and 424 M "FLOPs" at 224×224
# (github.com/sacmehta/ESPNetv2, README). They count multiply-adds, and no transposed convolutions.
AUTHORS_PARAMETERS, AUTHORS_MACS = 0.364e6, 424e6
IMAGE = "frankfurt_000000_000294"


def test_size_is_the_authors() -> None:
    paper = espnet.SPEC.variants[0]  # held to the network by the models' contract
    assert 0 <= paper.parameters - AUTHORS_PARAMETERS < 1e3
    network = espnet.build(paper.classes, paper.name)
    transposed = 4 * paper.classes**2 * (28**2 + 56**2 + 112**2)
    assert _count.gmacs(network, (224, 224)) * 1e9 - transposed == pytest.approx(AUTHORS_MACS, rel=2e-3)


def test_variants_grow_as_in_figure_4() -> None:
    """The feature maps that levels 2 and 3 and the classifier take."""
    inputs = {}
    for variant in ("a-q8", "b-q8", "c-q8"):
        state = espnet.build(20, variant).state_dict()
        keys = ("level2_0.c1.conv.weight", "level3_0.c1.conv.weight", "classifier.conv.weight")
        inputs[variant] = [state[key].shape[1] for key in keys]
    assert inputs == {"a-q8": [16, 64, 128], "b-q8": [16, 128, 256], "c-q8": [19, 131, 256]}


def test_branches_are_summed_from_dilation_2_upwards() -> None:
    """Hierarchical feature fusion, on an impulse: which dilations reach which feature maps."""
    module = espnet.ESP(1, 10)
    for parameter in module.parameters():
        nn.init.ones_(parameter)
    x = torch.zeros(1, 1, 65, 65)
    x[0, 0, 32, 32] = 1
    with torch.inference_mode():
        row = module.spread(x)[0, :, 32, 32:]
    reach = [set(np.flatnonzero(r).tolist()) - {0} for r in row[::2]]
    assert reach == [{1}, {2}, {2, 4}, {2, 4, 8}, {2, 4, 8, 16}]


@pytest.mark.parametrize("classes", [2, 5, 19])
def test_any_number_of_classes(classes: int) -> None:
    with torch.inference_mode():
        assert espnet.build(classes).eval()(torch.rand(1, 3, 64, 96)).shape == (1, classes, 64, 96)


def test_learns_two_frames() -> None:
    """From fresh weights, in training mode, with inputs as small as the variants' preprocessing makes them."""
    torch.manual_seed(0)
    network = espnet.build(6).train()
    labels = torch.arange(6).repeat_interleave(16).expand(2, 64, 96)
    frames = (labels[:, None] - 2.5 + torch.rand(2, 3, 64, 96)) / 255
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    losses = []
    for _ in range(20):
        loss = nn.functional.cross_entropy(network(frames), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] < 3 and losses[-1] < 0.85 * losses[0]


@pytest.fixture(scope="module")
def cityscapes(data_folder: Path):  # type: ignore[no-untyped-def]
    return np.load(data_folder / "golden/espnet_cityscapes.npz")


@pytest.mark.parametrize("q", [3, 5, 8])
def test_cityscapes_decoders_give_their_golden_outputs(q: int, data_folder: Path, cityscapes) -> None:  # type: ignore[no-untyped-def]
    network = models.load("espnet", data_folder / f"weights/espnet_decoder_p2_q{q}_cityscapes.pth")
    assert (network.variant.name, network.classes) == (f"q{q}", 20)
    with torch.inference_mode():
        logits = network.module(torch.from_numpy(cityscapes[f"input.{IMAGE}"])[None])[0].numpy()
    golden = {k: cityscapes[f"decoder_q{q}.{IMAGE}.{k}"] for k in ("logits_s8", "logits_stats", "argmax")}
    assert np.abs(logits[:, ::8, ::8] - golden["logits_s8"]).max() <= 1e-3
    assert [logits.min(), logits.max(), logits.mean(), logits.std()] == pytest.approx(golden["logits_stats"][:4], 1e-3)
    assert (logits.argmax(0) == golden["argmax"]).all()


@pytest.mark.parametrize("q", [3, 5, 8])
def test_cityscapes_encoders_give_their_golden_outputs(q: int, data_folder: Path, cityscapes) -> None:  # type: ignore[no-untyped-def]
    network = models.load("espnet", data_folder / f"weights/espnet_encoder_p2_q{q}_cityscapes.pth")
    assert (network.variant.name, network.classes) == (f"c-q{q}", 20)
    with torch.inference_mode():
        logits = network.module(torch.from_numpy(cityscapes[f"input.{IMAGE}"])[None])
        full = interpolate(logits, (512, 1024), mode="bilinear", align_corners=False)[0].numpy()
    assert np.abs(logits[0].numpy() - cityscapes[f"encoder_q{q}.{IMAGE}.logits"]).max() <= 1e-3
    assert (full.argmax(0) == cityscapes[f"encoder_q{q}.{IMAGE}.argmax"]).all()


@pytest.fixture(scope="module")
def camvid(data_folder: Path) -> models.Network:
    return models.load("espnet", data_folder / "weights/espnet_decoder_p2_q8_camvid.pth")


def test_camvid_checkpoint_gives_its_golden_logits(data_folder: Path, camvid: models.Network) -> None:
    assert (camvid.variant.name, camvid.classes) == ("camvid-q8", 12)
    golden = np.load(data_folder / "golden/espnet_p2_q8_camvid_test.npz")
    assert np.allclose(camvid.variant.mean, golden["mean_bgr"]) and camvid.variant.order == "BGR"
    assert np.allclose(camvid.variant.std, 255 * golden["std_bgr"])
    with torch.inference_mode():
        logits = camvid.module(torch.from_numpy(golden["0001TP_008550.input"])[None])[0].numpy()
    assert np.abs(logits - golden["0001TP_008550.logits"]).max() <= 1e-3
    assert (logits.argmax(0) == golden["0001TP_008550.argmax"]).all()


def test_camvid_checkpoint_scores_on_frames_as_they_come(data_folder: Path, camvid: models.Network) -> None:
    """Every sixteenth frame of the validation split, through the variant's own preprocessing."""
    dataset = open_dataset(f"camvid:{data_folder / 'camvid'}:val")
    reference = Reference(camvid.module, camvid.variant.preprocess((360, 480)))
    counts = np.zeros((12, 12), np.int64)
    for i in range(0, len(dataset), 16):
        sample = dataset[i]
        assert sample.labels is not None
        counts += confusion(sample.labels, reference.run(sample.frame)[1], 12, dataset.ignore_index)
    assert miou(counts, dataset.ignore_index)[0] == pytest.approx(71.4, abs=0.5)
