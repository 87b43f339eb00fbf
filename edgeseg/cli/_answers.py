"""What ``edgeseg run`` makes of an engine's answers: files, and overlays for people's eyes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from edgeseg.artifact import write_whole
from edgeseg.boxes import Detections
from edgeseg.cli._legend import Legend
from edgeseg.cli._sources import Frame
from edgeseg.manifest import Manifest
from edgeseg.overlay import draw_boxes, draw_labels, label_image


class Answers(Protocol):
    """One task's. ``verb`` is what the engine does, ``made`` what ``save`` writes."""

    verb: str
    made: str

    def save(self, answer: Any, name: str, folder: Path) -> None: ...
    def draw(self, frame: Frame, answer: Any) -> Frame: ...


class Labels:
    """``NAME-labels.png``, a palette image of class ids; overlays with a legend where that is asked for."""

    verb = "segment"
    made = "label maps"

    def __init__(self, manifest: Manifest, legend: bool, moving: bool) -> None:
        self._classes = manifest.classes
        self._legend = Legend(manifest.classes, keep=moving) if legend else None

    def save(self, answer: Frame, name: str, folder: Path) -> None:
        write_image(label_image(answer, self._classes), folder / f"{name}-labels.png")

    def draw(self, frame: Frame, answer: Frame) -> Frame:
        overlay = draw_labels(frame, answer, self._classes)
        return overlay if self._legend is None else self._legend.draw(overlay, answer)


class Boxes:
    """``NAME-boxes.json``; on overlays each box bears its class and score, so that they need no legend."""

    verb = "detect"
    made = "lists of boxes"

    def __init__(self, manifest: Manifest, legend: bool, moving: bool) -> None:
        self._classes = manifest.classes

    def save(self, answer: Detections, name: str, folder: Path) -> None:
        parts = (answer.boxes, answer.scores, answer.classes)
        boxes, scores, kinds = (values[: answer.count].tolist() for values in parts)
        objects = [
            {"class": self._classes[k].name, "score": round(s, 4), "box": [round(v, 1) for v in box]}
            for box, s, k in zip(boxes, scores, kinds, strict=True)
        ]
        text = json.dumps({"schema": 1, "objects": objects}, indent=1, ensure_ascii=False)
        write_whole(folder / f"{name}-boxes.json", text + "\n")

    def draw(self, frame: Frame, answer: Detections) -> Frame:
        return draw_boxes(frame, answer, self._classes)


TASKS: dict[str, Callable[[Manifest, bool, bool], Answers]] = {"semantic": Labels, "detection": Boxes}


def write_image(image: Image.Image, path: Path) -> None:
    """As PNG, whole or not at all."""
    content = io.BytesIO()
    image.save(content, format="PNG")
    write_whole(path, content.getvalue())
