"""Images and label maps from files; whatever is wrong with one is an InputError that names it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeseg.errors import InputError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
ID_MODES = ("1", "L", "P")  # one 8-bit number a pixel: black and white, grey, palette


def is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def images_in(folder: Path) -> list[Path]:
    """The images directly in ``folder``, by name; none where there is no such folder."""
    return sorted(p for p in folder.iterdir() if is_image(p)) if folder.is_dir() else []


def read_frame(path: Path) -> NDArray[np.uint8]:
    """The image at ``path`` as RGB uint8 H×W×3.

    Raises:
        InputError: missing, damaged, or no image.
    """
    return np.array(_read(path, "RGB"))


def read_labels(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The class ids at ``path``, uint8 H×W; palette entries stay ids.

    Raises:
        InputError: missing, damaged, not one id a pixel, or not of ``size`` (height, width).
    """
    image = _read(path)
    if image.mode not in ID_MODES:
        raise InputError(f"{path} has {image.mode} pixels: labels are grey or palette images of class ids")
    labels = np.asarray(image).astype(np.uint8)
    if labels.shape != size:
        height, width = labels.shape
        raise InputError(f"{path} is {height}x{width}, its image is {size[0]}x{size[1]}: make them match")
    return labels


def _read(path: Path, mode: str | None = None) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image.convert(mode) if mode else image
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        # Pillow's decoders raise SyntaxError for a broken PNG
        raise InputError(f"{path} cannot be read as an image: {error}") from None
