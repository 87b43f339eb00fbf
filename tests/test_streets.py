"""Procedural streets: the same on every run, exact labels and boxes, any size."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeseg.datasets import Sample, open_dataset
from edgeseg.datasets.streets import BOXED, MIN_VISIBLE, Streets, boxes_of, open_split
from edgeseg.errors import InputError

DIGESTS = """
from edgeseg.datasets.streets import open_split
from tests.test_streets import digest
print([digest(open_split("3@120x160", "train")[i]) for i in range(3)])
"""


def digest(sample: Sample) -> str:
    parts = (sample.frame, sample.labels, sample.boxes, sample.box_classes)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts if part is not None)).hexdigest()


def test_a_scene_is_the_same_in_every_process() -> None:
    here = [digest(open_split("9@120x160", "train")[i]) for i in range(3)]
    child = subprocess.run([sys.executable, "-c", DIGESTS], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == str(here)


def test_scenes_and_splits_differ() -> None:
    frames = [open_split("6@64x96", split)[i].frame.tobytes() for split in ("train", "val") for i in range(6)]
    assert len(set(frames)) == 12


def test_every_class_occurs() -> None:
    data, seen = open_dataset("streets:30"), np.zeros(11, np.int64)
    for i in range(30):
        labels = data[i].labels
        assert labels is not None
        assert labels.shape == (240, 320)
        assert labels.dtype == np.uint8
        seen += np.bincount(labels.ravel(), minlength=11)
    assert (len(data.classes), data.ignore_index) == (11, None)
    assert (seen > 0).all()


def test_boxes_enclose_exactly_what_is_seen() -> None:
    streets, found = open_split("12", "val"), set()
    for i in range(12):
        scene = streets.scene(i)
        boxes, box_classes = boxes_of(scene)
        numbers = np.arange(1, len(scene.instance_labels) + 1)
        kept = [n for n in numbers if (scene.instances == n).sum() >= MIN_VISIBLE]
        assert len(boxes) == len(kept) == len(box_classes)
        for number, box, label in zip(kept, boxes, box_classes, strict=True):
            rows, columns = np.nonzero(scene.instances == number)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert set(scene.labels[rows, columns].tolist()) == {label}
            found.add(int(label))
        assert np.isin(scene.labels[scene.instances > 0], BOXED).all()
    assert found == set(BOXED)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(64, 400), st.integers(64, 400), st.integers(0, 500))
def test_any_size(height: int, width: int, index: int) -> None:
    sample = Streets("val", 501, (height, width))[index]
    assert sample.labels is not None
    assert sample.boxes is not None
    assert sample.frame.shape == (height, width, 3)
    assert sample.frame.dtype == np.uint8
    assert sample.labels.shape == (height, width)
    assert sample.labels.max() <= 10
    assert sample.boxes.dtype == np.float32
    assert sample.boxes.shape[1:] == (4,)
    assert (sample.boxes[:, :2] >= 0).all()
    assert (sample.boxes[:, :2] < sample.boxes[:, 2:]).all()
    assert (sample.boxes[:, 2:] <= (width, height)).all()


@pytest.mark.parametrize(
    ("spec", "split", "count", "size"),
    [
        ("streets", "val", 100, (240, 320)),
        ("streets:7", "val", 7, (240, 320)),
        ("streets:7:train", "train", 7, (240, 320)),
        ("streets:2@96x128:val", "val", 2, (96, 128)),
    ],
)
def test_specifications(spec: str, split: str, count: int, size: tuple[int, int]) -> None:
    assert open_dataset(spec) == Streets(split, count, size)


@pytest.mark.parametrize(
    "spec",
    [
        "streets:many",
        "streets:0",
        "streets:5:test",
        "streets:5@96",
        "streets:5@8x8",
        "streets:-1",
        "streets:5@9999x320",
    ],
)
def test_bad_specifications_are_refused(spec: str) -> None:
    with pytest.raises(InputError, match="streets"):
        open_dataset(spec)


def test_past_the_end_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        open_split("2", "val")[2]
