"""Cityscapes with its 19 evaluated classes: ``cityscapes:PATH[:SPLIT]``, val by default.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding" (arXiv:1604.01685), as it is
unpacked: ``PATH/leftImg8bit/SPLIT/<city>/*_leftImg8bit.png`` and the fine annotations
``PATH/gtFine/SPLIT/<city>/*_gtFine_labelIds.png``, or where these are missing ``*_gtFine_labelTrainIds.png``.
Names, ids and colours are those of the data set's helpers/labels.py (github.com/mcordts/cityscapesScripts).
All other ids become 255, which is not scored: no prediction on such a pixel counts, right or wrong, as in
the data set's evaluation/evalPixelLevelSemanticLabeling.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeseg.datasets import Sample
from edgeseg.datasets._images import read_frame, read_labels
from edgeseg.errors import InputError
from edgeseg.spec import ClassSpec

VOID = 255
IMAGE, LABEL_IDS, TRAIN_IDS = "leftImg8bit", "gtFine_labelIds", "gtFine_labelTrainIds"
LAST_ID = 33
EVALUATED = (  # label id, name, colour; the position is the train id
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
CLASSES = tuple(ClassSpec(name, color) for _, name, color in EVALUATED)


def _train_ids() -> NDArray[np.uint8]:
    table = np.full(256, VOID, np.uint8)
    table[[label for label, _, _ in EVALUATED]] = np.arange(len(EVALUATED))
    return table


TRAIN_ID = _train_ids()


@dataclass(frozen=True)
class Cityscapes:
    """Pairs of image and annotation, read when they are asked for; labels are train ids."""

    pairs: tuple[tuple[Path, Path], ...]

    @property
    def classes(self) -> tuple[ClassSpec, ...]:
        return CLASSES

    @property
    def ignore_index(self) -> int | None:
        return VOID

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        image, annotation = self.pairs[index]
        frame = read_frame(image)
        labels = _labels(annotation, frame.shape[:2])
        return Sample(image.stem.removesuffix(f"_{IMAGE}"), frame, labels)


def _labels(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    ids = read_labels(path, size)
    if path.stem.endswith(TRAIN_IDS):
        stray = ids[(ids >= len(CLASSES)) & (ids != VOID)]
        known = f"train ids are 0 to {len(CLASSES) - 1} and {VOID}"
    else:
        stray, known = ids[ids > LAST_ID], f"label ids are 0 to {LAST_ID}"
        ids = TRAIN_ID[ids]
    if stray.size:
        raise InputError(f"{path} has id {stray[0]}: {known}")
    return ids


def open_split(path: str, split: str) -> Cityscapes:
    """Open ``split`` (val by default) of the Cityscapes at ``path``.

    Raises:
        InputError: no such folder or split, or an image without its annotation.
    """
    root, split = Path(path), split or "val"
    folder = root / IMAGE / split
    images = sorted(folder.glob(f"*/*_{IMAGE}.png"))
    if not path or not images:
        raise InputError(
            f"no <city>/*_{IMAGE}.png in '{folder}': give cityscapes:PATH[:SPLIT] where leftImg8bit and gtFine are"
        )
    return Cityscapes(tuple((image, _annotation(root / "gtFine" / split, image)) for image in images))


def _annotation(folder: Path, image: Path) -> Path:
    stem = image.stem.removesuffix(IMAGE)
    label_ids, train_ids = (folder / image.parent.name / f"{stem}{kind}.png" for kind in (LABEL_IDS, TRAIN_IDS))
    if label_ids.is_file():
        return label_ids
    if not train_ids.is_file():
        raise InputError(f"{label_ids} is missing, and so is {train_ids.name}: {image.name} needs one of them")
    return train_ids
