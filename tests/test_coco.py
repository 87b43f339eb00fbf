"""Data in COCO's form, and average precision as COCO's evaluator has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeseg.average_precision import Truth, average_precision, left_out
from edgeseg.boxes import Detections
from edgeseg.datasets import open_dataset
from edgeseg.datasets.coco import Coco
from edgeseg.errors import InputError

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 4, "name": "bird"}]
SIZE = (24, 32)


def annotation(image: int, category: int, box: list[float], **more: Any) -> dict[str, Any]:
    return {"id": image * 10 + category, "image_id": image, "category_id": category, "bbox": box, **more}


def make_coco(root: Path, split: str = "val2017", folder: str = "") -> Path:
    """Three images: two boxes, none, a crowd."""
    images = [{"id": i, "file_name": f"{i:012d}.png"} for i in (7, 3, 5)]
    place = root / (folder or split)
    place.mkdir(parents=True, exist_ok=True)
    for image in images:
        pixels = np.random.default_rng(int(str(image["id"]))).integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(place / str(image["file_name"]))
    annotations = [
        annotation(7, 4, [2, 3, 10, 8], iscrowd=0, area=70),
        annotation(7, 1, [0, 0, 32, 24], iscrowd=0),
        annotation(5, 1, [1.5, 2, 4, 4], iscrowd=1),
    ]
    document = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(document))
    return root


@pytest.mark.parametrize(
    ("folder", "spec"), [("", ":val2017"), ("", ""), ("images", ""), ("images/val2017", ":val2017")]
)
def test_a_split(folder: str, spec: str, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "subsets.json").write_text("{}")  # not COCO's
    dataset = open_dataset(f"coco:{make_coco(tmp_path, folder=folder)}{spec}")
    assert [dataset[i].name for i in range(len(dataset))] == ["000000000007", "000000000003", "000000000005"]
    assert [c.name for c in dataset.classes] == ["person", "unused 2", "unused 3", "bird"]
    first, empty, crowd = (dataset[i] for i in range(3))
    assert first.frame.shape == (*SIZE, 3) and first.labels is None
    assert first.boxes is not None and first.boxes.dtype == np.float32
    np.testing.assert_array_equal(first.boxes, [[2, 3, 12, 11], [0, 0, 32, 24]])
    assert first.box_classes is not None and first.box_classes.tolist() == [3, 0]
    assert empty.boxes is not None and empty.boxes.shape == (0, 4)
    assert crowd.crowd is not None and crowd.crowd.tolist() == [True]


def test_val_is_the_default_of_several(tmp_path: Path) -> None:
    make_coco(tmp_path, "train2017")
    assert len(open_dataset(f"coco:{make_coco(tmp_path)}")) == 3


def test_ids_may_begin_at_0(tmp_path: Path) -> None:
    path = make_coco(tmp_path) / "annotations/instances_val2017.json"
    document = json.loads(path.read_text())
    document["categories"] = [{"id": 0, "name": "ground"}, {"id": 1, "name": "person"}, {"id": 4, "name": "bird"}]
    path.write_text(json.dumps(document))
    dataset = open_dataset(f"coco:{tmp_path}")
    assert dataset.classes[0].name == "ground" and len(dataset.classes) == 5
    classes = dataset[0].box_classes
    assert classes is not None and classes.tolist() == [4, 1]


def _without_image(root: Path) -> None:
    next((root / "val2017").glob("*7.png")).unlink()


def _of_another_form(root: Path) -> None:
    (root / "annotations/instances_val2017.json").write_text('{"images": [{"id": 1}], "categories": []}')


def _not_json(root: Path) -> None:
    (root / "annotations/instances_val2017.json").write_text("<xml>")


def _of_unknown_images(root: Path) -> None:
    path = root / "annotations/instances_val2017.json"
    path.write_text(path.read_text().replace('"image_id": 5', '"image_id": 6'))


@pytest.mark.parametrize(
    ("damage", "spec", "message"),
    [
        (_without_image, "", "000000000007.png, which the annotations name, is in no folder of"),
        (_of_another_form, "", "is not of COCO's form"),
        (_not_json, "", "is not of COCO's form"),
        (_of_unknown_images, "", "is not of COCO's form"),
        (lambda root: None, ":test", "which annotations in .*annotations.*there are: val2017"),
        (lambda root: make_coco(root, "minival"), "", "there are: minival, val2017"),
    ],
)
def test_bad_coco(damage: Callable[[Path], object], spec: str, message: str, tmp_path: Path) -> None:
    damage(make_coco(tmp_path))
    with pytest.raises(InputError, match=message) as caught:
        open_dataset(f"coco:{tmp_path}{spec}")
    assert "\n" not in str(caught.value)


def test_no_folder_is_one_line() -> None:
    with pytest.raises(InputError, match=r"which annotations in .*there are: none"):
        open_dataset("coco:/no/such/place")


def test_the_sample(data_folder) -> None:  # type: ignore[no-untyped-def]
    dataset = open_dataset(f"coco:{data_folder / 'coco_sample'}")
    samples = [dataset[i] for i in (0, 50)]
    assert (len(dataset), len(dataset.classes)) == (177, 90)
    assert (dataset.classes[0].name, dataset.classes[89].name) == ("person", "toothbrush")
    assert isinstance(dataset, Coco)
    assert sum(len(image.boxes) for image in dataset.images) == 1279
    for sample in samples:
        height, width = sample.frame.shape[:2]
        assert sample.boxes is not None and (sample.boxes[:, 2:] <= np.array([width + 1, height + 1])).all()


def found(boxes: list[list[float]], scores: list[float], classes: list[int]) -> Detections:
    """Detections padded with zeros, which must not count."""
    count = len(boxes)
    kept = Detections(
        np.zeros((count + 3, 4), np.float32), np.zeros(count + 3, np.float32), np.zeros(count + 3, np.int32), count
    )
    kept.boxes[:count], kept.scores[:count], kept.classes[:count] = np.array(boxes).reshape(-1, 4), scores, classes
    return kept


def truth(boxes: list[list[float]], classes: list[int], crowd: list[bool] | None = None) -> Truth:
    marks = np.array(crowd or [False] * len(boxes), bool)
    return Truth(np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int32), marks)


A, B = [10.0, 10.0, 30.0, 30.0], [40.0, 5.0, 60.0, 45.0]


def test_perfect_boxes_score_100_and_absent_classes_nothing() -> None:
    truths = [truth([A, B], [0, 2]), truth([A], [0])]
    mean, each = average_precision(truths, [found([A, B], [0.9, 0.8], [0, 2]), found([A], [0.7], [0])], 4)
    assert mean == pytest.approx(100) and each[[0, 2]] == pytest.approx(100) and np.isnan(each[[1, 3]]).all()


def test_iou_thresholds_and_false_boxes_cost() -> None:
    near = [10.0, 10.0, 30.0, 26.0]  # IoU .8: right at 7 of 10 thresholds (.5 … .8)
    assert average_precision([truth([A], [0])], [found([near], [0.9], [0])], 1)[0] == pytest.approx(70)
    assert average_precision([truth([A], [0])], [found([B, A], [0.9, 0.8], [0, 0])], 1)[0] == pytest.approx(50)
    assert average_precision([truth([A], [0])], [found([A, B], [0.9, 0.8], [0, 0])], 1)[0] == pytest.approx(100)
    assert average_precision([truth([A], [0])], [found([A], [0.9], [1])], 2)[0] == 0


def test_crowds_neither_hit_nor_miss() -> None:
    truths = [truth([A, B], [0, 0], [False, True])]
    assert average_precision(truths, [found([B, A], [0.9, 0.8], [0, 0])], 1)[0] == pytest.approx(100)


def test_no_boxes_at_all() -> None:
    mean, each = average_precision([truth([A], [1])], [found([], [], [])], 2)
    assert mean == 0 and np.isnan(each[0]) and each[1] == 0
    assert np.isnan(average_precision([truth([], [])], [found([A], [0.9], [0])], 1)[0])


@pytest.mark.parametrize("seen", [1.0, 0.5, 0.0])
def test_what_is_left_out_is_as_if_it_never_was(seen: float) -> None:
    rng = np.random.default_rng(1)
    truths, answers = [], []
    for _ in range(11):
        corners = rng.uniform(0, 80, (3, 2))
        boxes, kinds = np.hstack([corners, corners + rng.uniform(5, 40, (3, 2))]), rng.integers(0, 3, 3).tolist()
        truths.append(truth(boxes.tolist(), kinds))
        kept = rng.random(3) < seen
        moved = (boxes + rng.normal(0, 2, boxes.shape))[kept].tolist()
        answers.append(
            found(moved, rng.random(len(moved)).tolist(), [k for k, b in zip(kinds, kept, strict=True) if b])
        )
    for groups in (4, 20):
        expected = []
        for group in range(min(groups, 11)):
            rest = [i for i in range(11) if i % groups != group]
            expected.append(average_precision([truths[i] for i in rest], [answers[i] for i in rest], 3)[0])
        assert left_out(truths, answers, 3, groups) == pytest.approx(expected)
