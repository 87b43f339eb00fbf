"""``edgeseg run``: overlays and label maps of images, videos and cameras."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from edgeseg.cli._progress import progress
from edgeseg.cli._sources import Source, open_source, show_window
from edgeseg.images import resize_frame, resize_labels
from edgeseg.overlay import draw_labels, label_image
from edgeseg.runtimes import Engine, open_artifact


def run(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder.")],
    source: Annotated[str, typer.Argument(help="Image, folder of images, video file, or camera (0 or /dev/video0).")],
    out: Annotated[Path, typer.Option(help="Folder that receives the images.")] = Path("overlays"),
    show: Annotated[bool, typer.Option("--show", help="Show the overlays in a window as well.")] = False,
) -> None:
    """Segment frames; each gives NAME-overlay.png and NAME-labels.png (a palette image of class ids)."""
    with open_artifact(artifact) as engine, progress() as bars:
        opened = open_source(source)
        out.mkdir(parents=True, exist_ok=True)
        with bars.task(f"segment {source}", opened.count) as done:
            count = _segment_all(engine, opened, out, show, done)
    print(f"{count} overlays and label maps in {out}")


def _segment_all(engine: Engine, source: Source, out: Path, show: bool, done: Callable[[], None]) -> int:
    count = 0
    try:
        for name, frame in source.frames:
            overlay = _save(name, frame, engine, out)
            if show:
                show_window(overlay, wait=not source.moving)
            count += 1
            done()
    except KeyboardInterrupt:
        if not source.live:  # a camera has no other end
            raise
    return count


def _save(name: str, frame: NDArray[np.uint8], engine: Engine, out: Path) -> NDArray[np.uint8]:
    labels = segment(engine, frame)
    classes = engine.manifest.classes
    overlay = draw_labels(frame, labels, classes)
    write_image(Image.fromarray(overlay), out / f"{name}-overlay.png")
    write_image(label_image(labels, classes), out / f"{name}-labels.png")
    return overlay


def segment(engine: Engine, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels uint8 H×W of a ``frame`` of any size: resized to the engine's, its labels back by nearest."""
    labels = engine.segment(resize_frame(frame, engine.manifest.frame))
    height, width = frame.shape[:2]
    return resize_labels(labels, (height, width))


def write_image(image: Image.Image, path: Path) -> None:
    """As PNG, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        image.save(part, format="PNG")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
