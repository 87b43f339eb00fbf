"""The weights that the package carries: small, trained to see something, and complete with how they came about."""

from __future__ import annotations

import pytest
from safetensors import safe_open

from edgeseg import models
from edgeseg.datasets import open_dataset
from edgeseg.models._train import Lesson
from edgeseg.models._train_boxes import BoxLesson
from edgeseg.models._train_labels import LabelLesson
from edgeseg.models._weights import PACKAGED, packaged
from edgeseg.progress import Silent

BYTES = 20e6
LEAST = {"IoU": 40.0, "AP": 15.0}  # points on eight scenes


def test_they_are_few_bytes() -> None:
    assert sum(file.stat().st_size for file in PACKAGED.iterdir()) <= BYTES


def test_the_four_networks_of_the_demo_have_them() -> None:
    assert set(models.packaged()) == {"enet", "espnet", "liteseg", "efficientdet"}


@pytest.mark.parametrize("name", models.packaged())
def test_they_see_something_and_say_what_they_learned_from(name: str) -> None:
    network, data = models.load(name), open_dataset("streets:8@240x320:val")
    preprocess = network.variant.preprocess(models.packaged_size(name, (240, 320)))
    lesson: Lesson = (
        LabelLesson(data, preprocess, network.spec.stride)
        if network.variant.anchors is None
        else BoxLesson(data, preprocess, network.spec.stride, network.variant.anchors)
    )
    assert lesson.score(network.module, data, Silent())[0] >= LEAST[lesson.metric]
    (file,) = packaged(name)
    with safe_open(file, "pt") as weights:
        notes = weights.metadata()
    assert notes["data"].startswith("streets:")
    assert notes["variant"] == network.variant.name
