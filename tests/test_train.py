"""The trainer: it learns, it goes on where it stopped, and what it writes loads again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from edgeseg.boxes import anchor_boxes, decode
from edgeseg.datasets import Sample
from edgeseg.datasets.streets import open_split
from edgeseg.errors import InputError
from edgeseg.models import _weights, efficientdet, enet
from edgeseg.models._train import Recipe, halve_weights, learning_rate, save_weights, train
from edgeseg.models._train_boxes import BoxLesson, solid
from edgeseg.models._train_labels import LabelLesson, class_weights, fit, halve, mean_iou
from edgeseg.progress import Silent
from edgeseg.spec import Preprocess

PREPROCESS = Preprocess(size=(64, 96))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Frames this small are slower on several threads, and much slower when the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network() -> enet.ENet:
    torch.manual_seed(3)
    return enet.build(classes=11)


def test_thirty_steps_learn(tmp_path: Path) -> None:
    lesson, losses = LabelLesson(open_split("40@64x96", "train"), PREPROCESS, 8), []
    recipe = Recipe(steps=30, batch=4, lr=3e-3, save_every=5, workers=0, coarse=0.0)
    trained = train(network(), lesson, recipe, tmp_path, report=lambda _, loss: losses.append(loss))
    assert len(losses) == 6
    assert losses[-1] < 0.8 * losses[0]
    assert not trained.training


class AlwaysRoad(torch.nn.Module):
    """Calls every pixel road."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(x), 11, *x.shape[2:])
        logits[:, 3] = 1.0
        return logits


def test_mean_iou_counts_all_pixels_at_once() -> None:
    data, road = open_split("3@64x96", "val"), []
    for i in range(3):
        labels = data[i].labels
        assert labels is not None
        road.append(labels == 3)
    mean, each = mean_iou(AlwaysRoad(), data, PREPROCESS)
    assert each[3] == pytest.approx(100 * float(np.mean(road)))
    assert mean == pytest.approx(float(np.nanmean(each)))


class Stop(Exception):
    pass


def stop_at_last(steps: int, loss: float) -> None:
    if steps == 6:
        raise Stop


@pytest.mark.parametrize("workers", [0, 1])
def test_resumed_is_the_same_as_uninterrupted(tmp_path: Path, workers: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    lesson = LabelLesson(open_split("9@64x96", "train"), PREPROCESS, 8)
    recipe = Recipe(steps=6, batch=2, save_every=3, workers=workers, coarse=0.5)
    expected = train(network(), lesson, recipe, whole).state_dict()
    with pytest.raises(Stop):
        train(network(), lesson, recipe, parts, report=stop_at_last)
    torch.manual_seed(99)
    resumed = train(enet.build(classes=11), lesson, recipe, parts, resume=True).state_dict()
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())


def test_weights_load_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "net.safetensors"
    save_weights(network(), path, {"classes": "11"})
    other = enet.build(classes=11)
    _weights.fill(other, _weights.read(path), "enet", path)
    state = other.state_dict()
    assert all(torch.equal(state[k], v) for k, v in network().state_dict().items() if "num_batches" not in k)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"classes": "11"}
        assert not any(key.endswith("num_batches_tracked") for key in file.keys())  # noqa: SIM118
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o044


def test_learning_rate_rises_then_falls_to_nothing() -> None:
    rates = [learning_rate(step, Recipe(steps=100, lr=1.0)) for step in range(100)]
    assert int(np.argmax(rates)) in (4, 5)
    assert max(rates) == 1.0
    assert (np.diff(rates[:5]) > 0).all()
    assert (np.diff(rates[5:]) < 0).all()
    assert 0 < rates[-1] < 0.001


def test_rare_classes_weigh_more() -> None:
    data, share = open_split("8@64x96", "train"), np.zeros(11, np.int64)
    for i in range(8):
        labels = data[i].labels
        assert labels is not None
        share += np.bincount(labels.ravel(), minlength=11)
    weights = class_weights(data).numpy()
    assert (np.diff(weights[np.argsort(share)]) <= 0).all()
    assert 2 < weights.max() / weights.min() < 8


def test_halves_to_multiples_of_the_stride() -> None:
    frame = torch.full((3, 64, 100), 7, dtype=torch.uint8)
    labels = torch.arange(100).expand(64, 100)
    small, nearest = halve(frame, labels, 8)
    assert (small.shape, nearest.shape) == ((3, 32, 48), (32, 48))
    assert (small == 7).all()
    assert (nearest[0].diff() > 0).all()


def test_unlabelled_images_are_refused() -> None:
    with pytest.raises(InputError, match="labels"):
        fit(Sample("bare", np.zeros((64, 96, 3), np.uint8)), PREPROCESS)


def test_frames_are_fitted_to_the_network() -> None:
    frame = np.zeros((32, 48, 3), np.uint8)
    frame[..., 0] = 200
    fitted, labels = fit(Sample("s", frame, np.ones((32, 48), np.uint8)), Preprocess(size=(64, 96), order="BGR"))
    assert (fitted.shape, labels.shape) == ((64, 96, 3), (64, 96))
    assert fitted[0, 0].tolist() == [0, 0, 200]


def test_half_precision_weights_are_what_was_scored(tmp_path: Path) -> None:
    trained, path = network(), tmp_path / "net.safetensors"
    halve_weights(trained)
    save_weights(trained, path, {}, half=True)
    assert path.stat().st_size < 0.7 * 4 * sum(p.numel() for p in trained.parameters())
    other = enet.build(classes=11)
    _weights.fill(other, _weights.read(path), "enet", path)
    wanted = trained.state_dict()
    assert all(torch.equal(v, wanted[k]) for k, v in other.state_dict().items() if "num_batches" not in k)
    assert all(v.dtype == wanted[k].dtype for k, v in other.state_dict().items())


def objects(sample: Sample) -> list[tuple[int, list[float]]]:
    assert sample.boxes is not None and sample.box_classes is not None
    return sorted(zip(sample.box_classes.tolist(), sample.boxes.tolist(), strict=True))


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("mirror", [False, True])
def test_anchors_learn_the_objects_of_the_frame_they_see(mirror: bool, coarse: bool) -> None:
    anchors = efficientdet.SPEC.variants[0].anchors
    assert anchors is not None
    preprocess, data = Preprocess((128, 192), letterbox=True), open_split("4@96x160", "train")
    lesson, sample = BoxLesson(data, preprocess, 32, anchors), data[1]
    frame, classes, deltas = lesson.example(sample, mirror, coarse)
    size = (64, 96) if coarse else (128, 192)
    assert tuple(frame.shape) == (3, *size)
    sees = classes >= 0
    height, width = Preprocess(size, letterbox=True).fitted((96, 160))
    boxes = decode(deltas[sees].numpy(), anchor_boxes(anchors, size)[sees.numpy()])
    boxes *= np.array([160 / width, 96 / height] * 2, np.float32)
    if mirror:
        boxes = np.stack([160 - boxes[:, 2], boxes[:, 1], 160 - boxes[:, 0], boxes[:, 3]], 1)
    shown = objects(sample)
    learnt = set()
    for kind, box in zip(classes[sees].tolist(), boxes, strict=True):
        (which,) = (i for i, (k, truth) in enumerate(shown) if k == kind and np.allclose(box, truth, atol=0.01))
        learnt.add(which)
    assert len(learnt) >= 0.7 * len(shown) > 1  # small ones may share a best anchor


def test_a_detector_learns(tmp_path: Path) -> None:
    data, losses = open_split("24@64x96", "train"), []
    (form,) = (v for v in efficientdet.SPEC.variants if v.name == "lite0")
    assert form.anchors is not None
    torch.manual_seed(3)
    lesson = BoxLesson(data, form.preprocess((64, 96)), 32, form.anchors)
    recipe = Recipe(steps=24, batch=4, lr=3e-3, save_every=4, workers=0, coarse=0.25)
    fresh = efficientdet.build(11, "lite0", width=0.25)
    trained = train(fresh, lesson, recipe, tmp_path, report=lambda _, loss: losses.append(loss))
    assert losses[-1] < 0.8 * losses[1]
    mean, each = lesson.score(trained, data, Silent())
    assert 0 <= mean <= 100
    assert np.isnan(each[0])  # no box of sky


def test_images_without_boxes_are_refused() -> None:
    with pytest.raises(InputError, match="boxes"):
        solid(Sample("bare", np.zeros((64, 96, 3), np.uint8)))
