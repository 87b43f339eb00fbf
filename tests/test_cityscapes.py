"""Cityscapes as it is unpacked: 34 label ids become 19 train ids, the rest is not scored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgeseg.datasets import Sample, open_dataset
from edgeseg.datasets.cityscapes import CLASSES, VOID
from edgeseg.errors import InputError
from edgeseg.metrics import confusion, miou

SIZE = (16, 32)
FRAMES = ("frankfurt/frankfurt_000000_000294", "frankfurt/frankfurt_000001_000019", "munster/munster_000000_000019")
# helpers/labels.py of mcordts/cityscapesScripts, label id by label id
TRAIN_IDS = [
    255, 255, 255, 255, 255, 255, 255, 0, 1, 255, 255, 2, 3, 4, 255, 255, 255,
    5, 255, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255, 255, 16, 17, 18,
]  # fmt: skip
TABLE = np.array(TRAIN_IDS, np.uint8)


def label_ids(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 34, SIZE).astype(np.uint8)


def make_cityscapes(root: Path, split: str = "val", kind: str = "labelIds") -> Path:
    for seed, frame in enumerate(FRAMES):
        image = root / "leftImg8bit" / split / f"{frame}_leftImg8bit.png"
        fine = root / "gtFine" / split / frame
        for path in (image, fine):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)).save(image)
        ids = label_ids(seed) if kind == "labelIds" else TABLE[label_ids(seed)]
        Image.fromarray(ids).save(f"{fine}_gtFine_{kind}.png")
        Image.new("RGBA", SIZE[::-1]).save(f"{fine}_gtFine_color.png")  # the archive has these beside
        Image.fromarray(ids.astype(np.uint16)).save(f"{fine}_gtFine_instanceIds.png")
    return root


def test_names_and_colors() -> None:
    assert [c.name for c in CLASSES] == [
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ]  # fmt: skip
    assert [c.color for c in CLASSES] == [
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0),
        (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
@pytest.mark.parametrize("split", ["val", "train"])
def test_a_split(split: str, kind: str, tmp_path: Path) -> None:
    root = make_cityscapes(tmp_path, split, kind)
    dataset = open_dataset(f"cityscapes:{root}:{split}" if split != "val" else f"cityscapes:{root}")
    assert [dataset[i].name for i in range(len(dataset))] == [Path(frame).name for frame in FRAMES]
    assert (len(dataset.classes), dataset.ignore_index) == (19, VOID)
    for seed in range(len(FRAMES)):
        assert dataset[seed].frame.shape == (*SIZE, 3)
        np.testing.assert_array_equal(dataset[seed].labels, TABLE[label_ids(seed)])


def official_iou(truth: NDArray[np.uint8], answer: NDArray[np.uint8], label: int) -> float:
    """getIouScoreForLabel of evaluation/evalPixelLevelSemanticLabeling.py, on label ids."""
    ignored = np.isin(truth, np.flatnonzero(TABLE == VOID))
    hit = np.sum((truth == label) & (answer == label))
    missed = np.sum((truth == label) & (answer != label))
    false = np.sum((truth != label) & (answer == label) & ~ignored)
    return float(hit / (hit + missed + false))


def test_miou_is_the_official_one(tmp_path: Path) -> None:
    dataset = open_dataset(f"cityscapes:{make_cityscapes(tmp_path)}")
    counts = np.zeros((19, 19), np.int64)
    evaluated = np.flatnonzero(TABLE != VOID)
    rng = np.random.default_rng(7)
    answers = []
    for i in range(len(dataset)):
        labels = dataset[i].labels
        assert labels is not None
        answer = np.where(rng.random(SIZE) < 0.6, labels, rng.integers(0, 19, SIZE)) % 19  # on ignored pixels too
        counts += confusion(labels, answer, 19, dataset.ignore_index)
        answers.append(evaluated[answer])
    truth, answer = np.stack([label_ids(i) for i in range(len(FRAMES))]), np.stack(answers)
    official = [official_iou(truth, answer, label) for label in evaluated.tolist()]
    mean, each = miou(counts, dataset.ignore_index)
    np.testing.assert_allclose(each, 100 * np.array(official))
    assert mean == pytest.approx(100 * np.mean(official))


def _fine(root: Path, kind: str = "labelIds") -> Path:
    return root / "gtFine" / "val" / f"{FRAMES[1]}_gtFine_{kind}.png"


def _write(path: Path, ids: NDArray[np.uint8]) -> None:
    Image.fromarray(ids).save(path)


def opened(spec: str) -> list[Sample]:
    dataset = open_dataset(spec)
    return [dataset[i] for i in range(len(dataset))]


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no images": (
        lambda root: (root / "leftImg8bit").rename(root / "images"),
        r"no <city>/\*_leftImg8bit\.png in '.*leftImg8bit/val': give cityscapes:PATH",
    ),
    "no annotations": (lambda root: (root / "gtFine").rename(root / "gtCoarse"), r"_gtFine_labelIds\.png is missing"),
    "an image without one": (
        lambda root: _fine(root).unlink(),
        r"frankfurt_000001_000019_gtFine_labelIds\.png is missing, and so is .*_gtFine_labelTrainIds\.png",
    ),
    "ids beyond the labels": (
        lambda root: _write(_fine(root), np.full(SIZE, 34, np.uint8)),
        r"000019_gtFine_labelIds\.png has id 34: label ids are 0 to 33",
    ),
    "train ids beyond the classes": (
        lambda root: _write(_fine(root).rename(_fine(root, "labelTrainIds")), np.full(SIZE, 19, np.uint8)),
        r"000019_gtFine_labelTrainIds\.png has id 19: train ids are 0 to 18 and 255",
    ),
    "colours": (lambda root: _fine(root, "color").replace(_fine(root)), r"labelIds\.png has RGBA pixels"),
    "another size": (
        lambda root: _write(_fine(root), np.zeros((8, 16), np.uint8)),
        r"labelIds\.png is 8x16, its image is 16x32",
    ),
    "a damaged image": (lambda root: _fine(root).write_bytes(b"PNG"), r"labelIds\.png cannot be read as an image"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named(case: str, tmp_path: Path) -> None:
    spoil, message = BAD[case]
    spoil(make_cityscapes(tmp_path))
    with pytest.raises(InputError, match=message) as caught:
        opened(f"cityscapes:{tmp_path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["cityscapes:", "cityscapes:/no/such/place", "cityscapes:/no/such/place:train"])
def test_no_folder(spec: str) -> None:
    with pytest.raises(InputError, match=r"no <city>/.* in '.*leftImg8bit/(val|train)'"):
        open_dataset(spec)


def test_an_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leftImg8bit/valid'"):
        open_dataset(f"cityscapes:{make_cityscapes(tmp_path)}:valid")
