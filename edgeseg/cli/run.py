"""``edgeseg run``: overlays, label maps and boxes of images, videos and cameras."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from edgeseg.boxes import Detections
from edgeseg.cli._progress import progress
from edgeseg.cli._sources import Source, open_source, show_window
from edgeseg.images import letterbox_frame, resize_frame, resize_labels
from edgeseg.overlay import draw_boxes, draw_labels, label_image
from edgeseg.runtimes import Engine, open_artifact

Frame = NDArray[np.uint8]


def run(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder.")],
    source: Annotated[str, typer.Argument(help="Image, folder of images, video file, or camera (0 or /dev/video0).")],
    out: Annotated[Path, typer.Option(help="Folder that receives the images.")] = Path("overlays"),
    show: Annotated[bool, typer.Option("--show", help="Show the overlays in a window as well.")] = False,
) -> None:
    """Segment or detect; each frame gives NAME-overlay.png and NAME-labels.png (a palette image of class ids) or
    NAME-boxes.json."""
    with open_artifact(artifact) as engine, progress() as bars:
        opened = open_source(source)
        out.mkdir(parents=True, exist_ok=True)
        verb, made, save = TASKS[engine.manifest.model.task]
        with bars.task(f"{verb} {source}", opened.count) as done:
            count = _save_all(engine, save, opened, out, show, done)
    print(f"{count} overlays and {made} in {out}")


def _save_all(engine: Engine, save: Save, source: Source, out: Path, show: bool, done: Callable[[], None]) -> int:
    count = 0
    try:
        for name, frame in source.frames:
            overlay = save(name, frame, engine, out)
            write_image(Image.fromarray(overlay), out / f"{name}-overlay.png")
            if show:
                show_window(overlay, wait=not source.moving)
            count += 1
            done()
    except KeyboardInterrupt:
        if not source.live:  # a camera has no other end
            raise
    return count


def _save_labels(name: str, frame: Frame, engine: Engine, out: Path) -> Frame:
    labels = segment(engine, frame)
    classes = engine.manifest.classes
    write_image(label_image(labels, classes), out / f"{name}-labels.png")
    return draw_labels(frame, labels, classes)


def _save_boxes(name: str, frame: Frame, engine: Engine, out: Path) -> Frame:
    found, classes = detect(engine, frame), engine.manifest.classes
    boxes, scores, kinds = (values[: found.count].tolist() for values in (found.boxes, found.scores, found.classes))
    objects = [
        {"class": classes[k].name, "score": round(s, 4), "box": [round(v, 1) for v in box]}
        for box, s, k in zip(boxes, scores, kinds, strict=True)
    ]
    text = json.dumps({"schema": 1, "objects": objects}, indent=1, ensure_ascii=False)
    _whole(out / f"{name}-boxes.json", lambda part: part.write_text(text + "\n", encoding="utf-8"))
    return draw_boxes(frame, found, classes)


Save = Callable[[str, Frame, Engine, Path], Frame]  # writes what was found; returns the overlay
TASKS: dict[str, tuple[str, str, Save]] = {
    "semantic": ("segment", "label maps", _save_labels),
    "detection": ("detect", "lists of boxes", _save_boxes),
}


def segment(engine: Engine, frame: Frame) -> Frame:
    """Labels uint8 H×W of a ``frame`` of any size: resized to the engine's, its labels back by nearest."""
    labels = engine.segment(resize_frame(frame, engine.manifest.frame))
    height, width = frame.shape[:2]
    return resize_labels(labels, (height, width))


def detect(engine: Engine, frame: Frame) -> Detections:
    """The objects on a ``frame`` of any size, in its own pixels: letterboxed to the engine's."""
    boxed, scale = letterbox_frame(frame, engine.manifest.frame, engine.manifest.preprocess.mean)
    found = engine.detect(boxed)
    height, width = frame.shape[:2]
    boxes = np.clip(found.boxes / scale, 0, np.array([width, height, width, height], np.float32))
    return Detections(boxes, found.scores, found.classes, found.count)


def write_image(image: Image.Image, path: Path) -> None:
    """As PNG, whole or not at all."""
    _whole(path, lambda part: image.save(part, format="PNG"))


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
