"""Options that several commands have, and those that need more reading than a type gives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from edgeseg.datasets._classes import FORM, from_json
from edgeseg.errors import InputError
from edgeseg.overlay import distinct_color
from edgeseg.spec import ClassSpec

# What `build` and `sensitivity` make a network from.
ModelName = Annotated[str, typer.Argument(help="A network of `edgeseg models`.")]
Weights = Annotated[Path | None, typer.Option(help="Checkpoint; the packaged weights by default.")]
VariantName = Annotated[str | None, typer.Option(help="The network's form; what the checkpoint fits, by default.")]
Classes = Annotated[str | None, typer.Option(metavar="N|FILE", help="Number of classes, or a file that names them.")]
InputSize = Annotated[str | None, typer.Option(metavar="HxW", help="The network's input.")]
FrameSize = Annotated[str | None, typer.Option(metavar="HxW", help="The camera's frames.")]


def parse_size(text: str | None, option: str) -> tuple[int, int] | None:
    """``HxW`` → (height, width); None stays None.

    Raises:
        InputError: it does not read so.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise InputError(f"{option} wants HEIGHTxWIDTH in pixels, as in 360x480, not '{text}'")
    return int(match[1]), int(match[2])


def parse_classes(text: str | None) -> int | tuple[ClassSpec, ...] | None:
    """A number of classes, or a file of them: JSON ``[{"name", "color"}]`` or a name on each line.

    Raises:
        InputError: neither a number nor a file that reads so.
    """
    if text is None:
        return None
    if text.isdecimal():
        return _count(int(text))
    try:
        content = Path(text).read_text(encoding="utf-8")
        return from_json(content)[0] if content.lstrip()[:1] in ("[", "{") else _named(content.splitlines())
    except (OSError, ValueError) as error:
        raise InputError(
            f"--classes {text} is neither a number nor a file of names, one a line, or of {FORM} ({error})"
        ) from None


def _count(count: int) -> int:
    if not 1 <= count <= 255:
        raise InputError(f"--classes must be 1 to 255, not {count}")
    return count


def _named(lines: list[str]) -> tuple[ClassSpec, ...]:
    names = [line.strip() for line in lines if line.strip()]
    _count(len(names))
    return tuple(ClassSpec(name, distinct_color(i)) for i, name in enumerate(names))
