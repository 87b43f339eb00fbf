"""PASCAL VOC as its development kit is laid out: palette ids as they stand, the void not scored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgeseg.datasets import Sample, open_dataset
from edgeseg.datasets.voc import CLASSES, VOID, palette_color
from edgeseg.errors import InputError
from edgeseg.metrics import confusion, miou

NAMES = ("2007_000033", "2007_000042", "2011_003271")
SIZE = (12, 20)
COLORS = (  # VOCdevkit/VOCcode/VOClabelcolormap.m, written out
    (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128),
    (128, 128, 128), (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128),
    (64, 128, 128), (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128),
)  # fmt: skip


def label_map(seed: int) -> NDArray[np.uint8]:
    ids = np.random.default_rng(seed).integers(0, len(CLASSES) + 1, SIZE).astype(np.uint8)
    return np.where(ids == len(CLASSES), np.uint8(VOID), ids)


def write_palette(path: Path, ids: NDArray[np.uint8]) -> None:
    image = Image.fromarray(ids).convert("L")
    image.putpalette([channel for i in range(256) for channel in palette_color(i)])
    image.save(path)


def make_voc(root: Path, split: str = "val") -> Path:
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{name}\n" for name in NAMES))
    for seed, name in enumerate((*NAMES, "2008_000001")):  # the last is in another split
        grey = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(grey).save(root / "JPEGImages" / f"{name}.jpg")
        write_palette(root / "SegmentationClass" / f"{name}.png", label_map(seed))
    return root


def test_names_and_colors() -> None:
    assert tuple(c.color for c in CLASSES) == COLORS
    assert palette_color(VOID) == (224, 224, 192)
    assert " ".join(c.name for c in CLASSES) == (
        "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
        "pottedplant sheep sofa train tvmonitor"
    )


@pytest.mark.parametrize("split", ["val", "train"])
def test_a_split(split: str, tmp_path: Path) -> None:
    root = make_voc(tmp_path, split)
    dataset = open_dataset(f"voc:{root}:{split}" if split != "val" else f"voc:{root}")
    assert [dataset[i].name for i in range(len(dataset))] == list(NAMES)
    assert (len(dataset.classes), dataset.ignore_index) == (21, VOID)
    for seed in range(len(NAMES)):
        assert dataset[seed].frame.shape == (*SIZE, 3)
        np.testing.assert_array_equal(dataset[seed].labels, label_map(seed))


def test_the_void_is_not_scored(tmp_path: Path) -> None:
    """IoU = TP / (TP + FP + FN) of all images' pixels that are not void (Everingham et al., 2010, section 4.2)."""
    dataset = open_dataset(f"voc:{make_voc(tmp_path)}")
    counts = np.zeros((21, 21), np.int64)
    truth, answer = [], []
    for i in range(len(dataset)):
        labels = dataset[i].labels
        assert labels is not None
        predicted = np.roll(label_map(i), 7 * i) % 21
        counts += confusion(labels, predicted.astype(np.uint8), 21, dataset.ignore_index)
        truth.append(labels[labels != VOID])
        answer.append(predicted[labels != VOID])
    t, a = np.concatenate(truth), np.concatenate(answer)
    expected = [np.sum((t == c) & (a == c)) / np.sum((t == c) | (a == c)) for c in range(21)]
    np.testing.assert_allclose(miou(counts, dataset.ignore_index)[1], 100 * np.array(expected))
    assert miou(counts, dataset.ignore_index)[0] == pytest.approx(100 * np.mean(expected))


def _list(root: Path, text: bytes) -> int:
    return (root / "ImageSets" / "Segmentation" / "val.txt").write_bytes(text)


def _label(root: Path) -> Path:
    return root / "SegmentationClass" / f"{NAMES[1]}.png"


def opened(spec: str) -> list[Sample]:
    dataset = open_dataset(spec)
    return [dataset[i] for i in range(len(dataset))]


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no list": (
        lambda root: (root / "ImageSets/Segmentation/val.txt").rename(root / "ImageSets/Segmentation/train.txt"),
        "no split 'val' in .*: there is train$",
    ),
    "an empty list": (lambda root: _list(root, b"\n"), r"val\.txt lists no images"),
    "a list of bytes": (lambda root: _list(root, b"\xff\xfe\x00"), r"val\.txt cannot be read"),
    "listed but missing": (
        lambda root: (root / "JPEGImages" / f"{NAMES[1]}.jpg").unlink(),
        r"val\.txt lists 2007_000042, but .*JPEGImages/2007_000042\.jpg is missing",
    ),
    "unlabelled": (lambda root: _label(root).unlink(), r"SegmentationClass/2007_000042\.png is missing"),
    "an id beyond the classes": (
        lambda root: write_palette(_label(root), np.full(SIZE, 21, np.uint8)),
        r"2007_000042\.png has id 21: VOC's labels have ids 0 to 20 and 255",
    ),
    "an expanded palette": (
        lambda root: Image.open(_label(root)).convert("RGB").save(_label(root)),
        r"2007_000042\.png has RGB pixels",
    ),
    "labels of another size": (
        lambda root: write_palette(_label(root), np.zeros((12, 19), np.uint8)),
        r"2007_000042\.png is 12x19, its image is 12x20",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named(case: str, tmp_path: Path) -> None:
    spoil, message = BAD[case]
    spoil(make_voc(tmp_path))
    with pytest.raises(InputError, match=message) as caught:
        opened(f"voc:{tmp_path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["voc:", "voc:/no/such/place", "voc:/no/such/place:train"])
def test_no_folder(spec: str) -> None:
    with pytest.raises(InputError, match=r"no ImageSets/Segmentation in '.*': give voc:PATH\[:SPLIT\]"):
        open_dataset(spec)
