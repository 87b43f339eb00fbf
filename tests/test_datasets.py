"""Every kind of data gives samples that fit its classes; what is wrong with a file is one line naming it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgeseg.datasets import Dataset, kinds, open_dataset
from edgeseg.datasets.camvid import CLASSES as CAMVID
from edgeseg.errors import InputError
from edgeseg.overlay import label_image
from edgeseg.spec import ClassSpec
from tests.test_cityscapes import make_cityscapes
from tests.test_coco import make_coco
from tests.test_voc import make_voc

HEIGHT, WIDTH = 6, 8
CLASSES = (ClassSpec("grass", (0, 200, 0)), ClassSpec("stone", (90, 90, 90)), ClassSpec("unknown", (0, 0, 0)))


def frame(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def label_map(top: int) -> NDArray[np.uint8]:
    return np.random.default_rng(top).integers(0, top, (HEIGHT, WIDTH)).astype(np.uint8)


def write(path: Path, pixels: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def make_folder(root: Path, split: str = "") -> Path:
    for i, name in enumerate(("b.png", "a.bmp")):
        write(root / "images" / split / name, frame(i))
    for stem in "ab":
        path = root / "labels" / split / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        label_image(label_map(3), CLASSES).save(path)
    named = [{"name": c.name, "color": c.color} for c in CLASSES]
    (root / "classes.json").write_text(json.dumps({"classes": named, "ignore_index": 2}))
    return root


def make_camvid(root: Path, split: str = "val") -> Path:
    for i, stem in enumerate(("0001", "0002", "0003.5")):
        write(root / split / f"{stem}.png", frame(i))
        path = root / f"{split}annot" / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        label_image(label_map(12), CAMVID).save(path)
    return root


SPECS: dict[str, Callable[[Path], str]] = {
    "camvid": lambda root: f"camvid:{make_camvid(root)}",
    "cityscapes": lambda root: f"cityscapes:{make_cityscapes(root)}",
    "coco": lambda root: f"coco:{make_coco(root)}",
    "folder": lambda root: f"folder:{make_folder(root)}",
    "streets": lambda root: "streets:2@64x96:val",
    "voc": lambda root: f"voc:{make_voc(root)}",
}


@pytest.mark.parametrize("kind", kinds())
def test_samples_fit_their_classes(kind: str, tmp_path: Path) -> None:
    dataset = open_dataset(SPECS[kind](tmp_path))
    assert len(dataset) >= 2
    assert len({dataset[i].name for i in range(len(dataset))}) == len(dataset)
    for i in range(len(dataset)):
        sample = dataset[i]
        assert sample.frame.dtype == np.uint8
        assert sample.frame.shape[2:] == (3,)
        assert sample.labels is not None or sample.boxes is not None
        if sample.labels is not None:
            assert sample.labels.dtype == np.uint8
            assert sample.labels.shape == sample.frame.shape[:2]
            assert sample.labels[sample.labels != dataset.ignore_index].max() < len(dataset.classes)
        if sample.boxes is not None and sample.box_classes is not None:
            assert sample.boxes.shape == (len(sample.box_classes), 4)
            assert (sample.boxes[:, 2:] > sample.boxes[:, :2]).all()
            assert ((sample.box_classes >= 0) & (sample.box_classes < len(dataset.classes))).all()
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_folder_keeps_palette_ids_and_reads_its_classes(tmp_path: Path) -> None:
    dataset = open_dataset(f"folder:{make_folder(tmp_path, 'val')}:val")
    assert (dataset.classes, dataset.ignore_index) == (CLASSES, 2)
    assert [dataset[i].name for i in range(2)] == ["a", "b"]
    np.testing.assert_array_equal(dataset[1].frame, frame(0))
    np.testing.assert_array_equal(dataset[1].labels, label_map(3))


def test_folder_of_bare_images_has_no_labels(tmp_path: Path) -> None:
    for name in ("x.JPG", "y.webp", ".hidden.png", "notes.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            write(tmp_path / name, frame())
    dataset = open_dataset(f"folder:{tmp_path}")
    assert [dataset[i].name for i in range(len(dataset))] == ["x", "y"]
    assert dataset[0].labels is None
    assert (dataset.classes, dataset.ignore_index) == ((), None)


def test_a_grey_image_becomes_three_channels(tmp_path: Path) -> None:
    grey = frame()[..., 0]
    write(tmp_path / "grey.png", grey)
    np.testing.assert_array_equal(open_dataset(f"folder:{tmp_path}")[0].frame, np.stack([grey] * 3, -1))


def test_images_are_read_when_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "good.png", frame())
    (tmp_path / "late.png").write_bytes(b"not yet an image")
    dataset = open_dataset(f"folder:{tmp_path}")
    assert dataset[0].name == "good"
    with pytest.raises(InputError, match=r"late\.png cannot be read as an image"):
        dataset[1]


@pytest.mark.parametrize("lines", [["0002", "0001"], ["/SegNet/val/0002.png /SegNet/valannot/0002.png", "0001"]])
def test_camvid_follows_its_list(lines: list[str], tmp_path: Path) -> None:
    make_camvid(tmp_path)
    (tmp_path / "val.txt").write_text("\n".join(lines) + "\n")
    dataset = open_dataset(f"camvid:{tmp_path}:val")
    assert [dataset[i].name for i in range(len(dataset))] == ["0002", "0001"]
    np.testing.assert_array_equal(dataset[0].labels, label_map(12))


def test_camvid_itself(data_folder: Path) -> None:
    train, val = (open_dataset(f"camvid:{data_folder / 'camvid'}{split}") for split in (":train", ""))
    assert (len(train), len(val)) == (367, 101)
    sample = val[0]
    assert sample.frame.shape == (360, 480, 3)
    assert sample.labels is not None
    assert set(np.unique(sample.labels)) <= set(range(12))
    assert (val.classes[11].name, val.ignore_index) == ("Void", 11)


def _damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _opened(spec: str) -> Dataset:
    dataset = open_dataset(spec)
    for i in range(len(dataset)):
        dataset[i]
    return dataset


BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no images": (lambda root: shutil.rmtree(root / "images"), "no images"),
    "truncated image": (lambda root: _damage(root / "images" / "b.png"), r"b\.png cannot be read"),
    "truncated labels": (lambda root: _damage(root / "labels" / "a.png"), r"a\.png cannot be read"),
    "missing labels": (lambda root: (root / "labels" / "a.png").unlink(), r"labels/a\.png does not exist"),
    "labels of colours": (lambda root: write(root / "labels" / "a.png", frame()), r"a\.png has RGB pixels"),
    "labels of another size": (
        lambda root: write(root / "labels" / "a.png", np.zeros((5, 8), np.uint8)),
        r"a\.png is 5x8, its image is 6x8",
    ),
    "classes that are no JSON": (
        lambda root: (root / "classes.json").write_text("{"),
        r"classes\.json is not",
    ),
    "classes without colours": (
        lambda root: (root / "classes.json").write_text('[{"name": "a"}]'),
        r"classes\.json is not .*color",
    ),
    "a colour out of range": (
        lambda root: (root / "classes.json").write_text('[{"name": "a", "color": [0, 0, 256]}]'),
        "not within 0 to 255",
    ),
    "no classes": (lambda root: (root / "classes.json").write_text("[]"), "0 classes"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_bad_folder(case: str, tmp_path: Path) -> None:
    spoil, message = BAD_FOLDERS[case]
    spoil(make_folder(tmp_path))
    with pytest.raises(InputError, match=message) as caught:
        _opened(f"folder:{tmp_path}")
    assert "\n" not in str(caught.value)


BAD_CAMVIDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "listed but missing": (
        lambda root: (root / "val.txt").write_text("0001\n0009\n"),
        r"val\.txt lists 0009",
    ),
    "empty list": (lambda root: (root / "val.txt").write_text("\n"), r"val\.txt lists no images"),
    "list of bytes": (
        lambda root: (root / "val.txt").write_bytes(b"\xff\xfe\x00"),
        r"val\.txt cannot be read",
    ),
    "unlabelled": (lambda root: (root / "valannot" / "0002.png").unlink(), r"valannot/0002\.png is missing"),
    "ids beyond void": (
        lambda root: write(root / "valannot" / "0001.png", np.full((HEIGHT, WIDTH), 30, np.uint8)),
        r"0001\.png has id 30",
    ),
    "truncated": (lambda root: _damage(root / "val" / "0001.png"), r"0001\.png cannot be read"),
}


@pytest.mark.parametrize("case", BAD_CAMVIDS)
def test_bad_camvid(case: str, tmp_path: Path) -> None:
    spoil, message = BAD_CAMVIDS[case]
    spoil(make_camvid(tmp_path))
    with pytest.raises(InputError, match=message) as caught:
        _opened(f"camvid:{tmp_path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("photos:/tmp", f"unknown data kind 'photos'.*{', '.join(kinds())}"),
        ("folder:", "no folder at ''"),
        ("folder:/no/such/place", "no folder at '/no/such/place'"),
        ("camvid:", "no images in 'val'"),
        ("camvid:/no/such/place:test", "no images in '/no/such/place/test'"),
    ],
)
def test_bad_spec(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_dataset(spec)
