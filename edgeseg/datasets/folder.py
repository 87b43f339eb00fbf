"""A folder of images, with labels where there are some: ``folder:PATH[:SPLIT]``.

Images (``.jpg .jpeg .png .bmp .webp``) stand in ``PATH/images/SPLIT`` or else ``PATH/SPLIT``. Their labels,
if any, stand in ``PATH/labels/SPLIT`` as ``<stem>.png`` with one class id a pixel. Without a split the last
part falls away. ``PATH/classes.json`` names the classes: a list of ``{"name": …, "color": [r, g, b]}``, or
``{"classes": [that list], "ignore_index": id}``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeseg.datasets import Sample
from edgeseg.datasets._classes import FORM, from_json
from edgeseg.datasets._images import SUFFIXES, images_in, read_frame, read_labels
from edgeseg.errors import InputError
from edgeseg.spec import ClassSpec


@dataclass(frozen=True)
class Folder:
    """Images read when they are asked for. ``classes`` is empty where no ``classes.json`` names them."""

    images: tuple[Path, ...]
    labels: Path | None
    classes: tuple[ClassSpec, ...] = ()
    ignore_index: int | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        path = self.images[index]
        frame = read_frame(path)
        if self.labels is None:
            return Sample(path.stem, frame)
        return Sample(path.stem, frame, read_labels(self.labels / f"{path.stem}.png", frame.shape[:2]))


def open_split(path: str, split: str) -> Folder:
    """Open the images of ``split`` (all, where it is empty) under ``path``.

    Raises:
        InputError: no folder, no images in it, or a ``classes.json`` that does not read so.
    """
    root = Path(path)
    if not path or not root.is_dir():
        raise InputError(f"no folder at '{path}': give folder:PATH[:SPLIT]")
    candidates = [root / "images" / split, root / split]
    found = next((images for folder in candidates if (images := images_in(folder))), [])
    if not found:
        tried = " and ".join(str(folder) for folder in candidates)
        raise InputError(f"no images ({' '.join(SUFFIXES)}) in {tried}")
    labels = root / "labels" / split
    classes, ignore_index = _classes(root / "classes.json")
    return Folder(tuple(found), labels if labels.is_dir() else None, classes, ignore_index)


def _classes(path: Path) -> tuple[tuple[ClassSpec, ...], int | None]:
    if not path.is_file():
        return (), None
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not {FORM} ({error}): mend it or remove it") from None
