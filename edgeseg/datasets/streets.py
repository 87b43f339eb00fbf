"""Procedural street scenes with exact labels and boxes: ``streets[:N[@HxW][:train|val]]``.

Every scene is drawn from its own seed, so a split is the same on every run and may be as long as one
likes. Classes, order and colours are CamVid's eleven (Brostow et al., "Semantic object classes in video",
2009); vegetation of all kinds is Tree and traffic lights are SignSymbol, as CamVid's 11-class form has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeseg.datasets import Sample
from edgeseg.datasets._streets import classes as c
from edgeseg.datasets._streets.scene import Scene, render
from edgeseg.errors import InputError
from edgeseg.spec import ClassSpec

SEEDS = {"train": 1, "val": 2}
BOXED = (c.CAR, c.PEDESTRIAN, c.BICYCLIST, c.SIGN)
MIN_VISIBLE = 25  # pixels


@dataclass(frozen=True)
class Streets:
    """``count`` scenes of ``size`` (height, width); scene i depends on (split, i, size) alone."""

    split: str
    count: int
    size: tuple[int, int]

    @property
    def classes(self) -> tuple[ClassSpec, ...]:
        return c.CLASSES

    @property
    def ignore_index(self) -> int | None:
        return None

    def __len__(self) -> int:
        return self.count

    def scene(self, index: int) -> Scene:
        """Frame, labels and the map of objects of scene ``index``."""
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        return render(np.random.default_rng((SEEDS[self.split], index)), self.size)

    def __getitem__(self, index: int) -> Sample:
        scene = self.scene(index)
        boxes, box_classes = boxes_of(scene)
        return Sample(f"{self.split}-{index:06d}", scene.frame, scene.labels, boxes, box_classes)


def boxes_of(scene: Scene) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Tight boxes N×4 (x1 and y1 are one past the last pixel) and classes N of the cars, pedestrians,
    cyclists and signs of which at least MIN_VISIBLE pixels are seen."""
    rows, columns = np.nonzero(scene.instances)
    number = scene.instances[rows, columns]
    total = len(scene.instance_labels) + 1
    box = np.zeros((total, 4), np.float32)
    box[:, :2] = np.inf
    for k, values in enumerate((columns, rows)):
        np.minimum.at(box[:, k], number, values.astype(np.float32))
        np.maximum.at(box[:, k + 2], number, values.astype(np.float32) + 1)
    label = np.array((0, *scene.instance_labels), np.int32)
    keep = (np.bincount(number, minlength=total) >= MIN_VISIBLE) & np.isin(label, BOXED)
    return box[keep], label[keep]


def open_split(path: str, split: str) -> Streets:
    """Open ``path`` ("", N or N@HxW; 100 scenes of 240x320 by default) of ``split`` (val by default).

    Raises:
        InputError: the specification does not read so.
    """
    match = re.fullmatch(r"(\d+)?(?:@(\d+)x(\d+))?", path)
    if match is None or (split or "val") not in SEEDS:
        raise InputError(f"streets:{path}:{split} is not streets[:N[@HxW][:train|val]], as in streets:200@240x320:val")
    count, height, width = (
        int(text) if text else default for text, default in zip(match.groups(), (100, 240, 320), strict=True)
    )
    if count < 1 or not (32 <= height <= 4096 and 32 <= width <= 4096):
        raise InputError(f"streets:{path} needs at least one scene and a height and width of 32 to 4096")
    return Streets(split or "val", count, (height, width))
