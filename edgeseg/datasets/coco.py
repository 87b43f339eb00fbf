"""Images with boxes in COCO's form (arXiv:1405.0312, cocodataset.org): ``coco:PATH[:SPLIT]``.

Annotations are ``PATH/annotations/instances_SPLIT.json``, or the one file there whose name holds SPLIT (``val`` by
default, or the only file). Images stand in ``PATH/SPLIT``, ``PATH/images/SPLIT``, ``PATH/images``, ``PATH`` or a
folder of ``PATH``. Class i is category i + 1, or category i where the ids begin at 0: COCO's 80 categories are 90
classes, ten of them without a name, as networks trained on COCO number them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.datasets import Sample
from edgeseg.datasets._images import read_frame
from edgeseg.errors import InputError
from edgeseg.overlay import distinct_color
from edgeseg.spec import ClassSpec

DEFAULT = "val"
MOST_CLASSES = 255


@dataclass(frozen=True)
class Annotated:
    """An image and what is on it: ``boxes`` float32 N×4 (x0 y0 x1 y1), ``classes`` int32 N, ``crowd`` bool N."""

    image: Path
    boxes: NDArray[np.float32]
    classes: NDArray[np.int32]
    crowd: NDArray[np.bool_]


@dataclass(frozen=True)
class Coco:
    """Images read when they are asked for."""

    images: tuple[Annotated, ...]
    classes: tuple[ClassSpec, ...]

    @property
    def ignore_index(self) -> int | None:
        return None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        found = self.images[index]
        frame = read_frame(found.image)
        return Sample(found.image.stem, frame, boxes=found.boxes, box_classes=found.classes, crowd=found.crowd)


def open_split(path: str, split: str) -> Coco:
    """Open the images of ``split`` under ``path``.

    Raises:
        InputError: no annotations of COCO's form, or images that they name are not there.
    """
    root = Path(path)
    file = _annotations(root, split)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        first, classes = _classes(document["categories"])
        folder = _folder(root, split, str(document["images"][0]["file_name"]))
        return Coco(_images(document, folder, first), classes)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{file} is not of COCO's form, images, annotations, categories ({error!r})") from None


def _annotations(root: Path, split: str) -> Path:
    files = sorted((root / "annotations").glob("*.json"))
    exact = root / "annotations" / f"instances_{split}.json"
    named = [f for f in files if f.name.startswith("instances_")] or files
    fitting = [f for f in named if (split or DEFAULT) in f.stem]
    if exact in files:
        return exact
    if len(fitting) == 1:
        return fitting[0]
    if len(named) == 1 and not split:
        return named[0]
    have = ", ".join(f.stem.removeprefix("instances_") for f in fitting or named) or "none"
    raise InputError(f"which annotations in {root / 'annotations'}? Give coco:PATH:SPLIT; there are: {have}")


def _folder(root: Path, split: str, example: str) -> Path:
    places = [root / split, root / "images" / split, root / "images", root]
    places += sorted(p for p in root.iterdir() if p.is_dir())
    for place in places:
        if (place / example).is_file():
            return place
    raise InputError(f"{example}, which the annotations name, is in no folder of {root}")


def _classes(categories: list[dict[str, Any]]) -> tuple[int, tuple[ClassSpec, ...]]:
    """The id of class 0, and the classes."""
    names = {int(c["id"]): str(c["name"]) for c in categories}
    first = min(1, *names)
    count = max(names) - first + 1
    if first < 0 or count > MOST_CLASSES:
        raise ValueError(f"category ids from {first} to {max(names)}")
    return first, tuple(ClassSpec(names.get(i + first, f"unused {i + first}"), distinct_color(i)) for i in range(count))


def _images(document: Mapping[str, Any], folder: Path, first: int) -> tuple[Annotated, ...]:
    by_image: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in document["images"]}
    for annotation in document["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    return tuple(_annotated(folder / str(i["file_name"]), by_image[i["id"]], first) for i in document["images"])


def _annotated(image: Path, annotations: list[dict[str, Any]], first: int) -> Annotated:
    boxes = np.array([a["bbox"] for a in annotations], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    classes = np.array([a["category_id"] for a in annotations], np.int32) - np.int32(first)
    crowd = np.array([bool(a.get("iscrowd", 0)) for a in annotations], bool)
    return Annotated(image, boxes, classes, crowd)
