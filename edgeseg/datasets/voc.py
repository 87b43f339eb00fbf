"""PASCAL VOC 2012 segmentation, 20 classes and background: ``voc:PATH[:SPLIT]``, val by default.

Everingham et al., "The PASCAL Visual Object Classes Challenge" (2010), in the layout of the 2012 development
kit, whose ``VOCdevkit/VOC2012`` is PATH: ``ImageSets/Segmentation/SPLIT.txt`` with a name on each line,
``JPEGImages/<name>.jpg`` and ``SegmentationClass/<name>.png``, a palette image of class ids. Id 255, the
border of objects and what is hard to tell, is not scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeseg.datasets import Sample
from edgeseg.datasets._images import read_frame, read_labels
from edgeseg.errors import InputError
from edgeseg.spec import ClassSpec

VOID = 255
NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def palette_color(index: int) -> tuple[int, int, int]:
    """The kit's colour of ``index`` (its VOCcode/VOClabelcolormap): bits 0, 3, 6 of the id are red's from the
    highest down, bits 1, 4, 7 green's and bits 2, 5 blue's."""
    red, green, blue = (sum((index >> (3 * k + channel) & 1) << (7 - k) for k in range(8)) for channel in range(3))
    return red, green, blue


CLASSES = tuple(ClassSpec(name, palette_color(i)) for i, name in enumerate(NAMES))


@dataclass(frozen=True)
class Voc:
    """The images ``names`` of the kit's folder ``root``, read when they are asked for."""

    root: Path
    names: tuple[str, ...]

    @property
    def classes(self) -> tuple[ClassSpec, ...]:
        return CLASSES

    @property
    def ignore_index(self) -> int | None:
        return VOID

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        frame = read_frame(_image(self.root, name))
        path = _annotation(self.root, name)
        labels = read_labels(path, frame.shape[:2])
        stray = labels[(labels >= len(CLASSES)) & (labels != VOID)]
        if stray.size:
            raise InputError(f"{path} has id {stray[0]}: VOC's labels have ids 0 to {len(CLASSES) - 1} and {VOID}")
        return Sample(name, frame, labels)


def open_split(path: str, split: str) -> Voc:
    """Open ``split`` (val by default) of the VOC 2012 at ``path``.

    Raises:
        InputError: no such folder or split, or an image or label map that is listed but not there.
    """
    root, split = Path(path), split or "val"
    lists = root / "ImageSets" / "Segmentation"
    if not path or not lists.is_dir():
        raise InputError(f"no ImageSets/Segmentation in '{path}': give voc:PATH[:SPLIT] of the kit's VOCdevkit/VOC2012")
    names = _listed(lists / f"{split}.txt")
    if missing := [name for name in names if not _image(root, name).is_file()]:
        raise InputError(f"{lists / split}.txt lists {missing[0]}, but {_image(root, missing[0])} is missing")
    if unlabelled := [name for name in names if not _annotation(root, name).is_file()]:
        raise InputError(
            f"{_annotation(root, unlabelled[0])} is missing: every image of '{split}' needs its label map "
            "(the kit has none for its test split)"
        )
    return Voc(root, tuple(names))


def _image(root: Path, name: str) -> Path:
    return root / "JPEGImages" / f"{name}.jpg"


def _annotation(root: Path, name: str) -> Path:
    return root / "SegmentationClass" / f"{name}.png"


def _listed(path: Path) -> list[str]:
    if not path.is_file():
        splits = ", ".join(sorted(p.stem for p in path.parent.glob("*.txt"))) or "none"
        raise InputError(f"no split '{path.stem}' in {path.parent}: there is {splits}")
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    if not names:
        raise InputError(f"{path} lists no images")
    return names
