"""What a build does for a task: how the graph ends, what it must answer, how images become frames."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.passes import frame_io
from edgeseg.images import letterbox_frame, resize_frame
from edgeseg.models import Network
from edgeseg.models._reference import DetectionReference, Reference
from edgeseg.spec import Detection, Preprocess, Variant

Frame = NDArray[np.uint8]
Tensors = dict[str, NDArray[Any]]


class Task(Protocol):
    """``outputs`` are the names of the network's own outputs."""

    outputs: tuple[str, ...]

    def ends(self, graph: ir.Model, preprocess: Preprocess, frame: tuple[int, int], output: str) -> None:
        """Move both ends into ``graph``; ``output`` as the request has it. Raises InputError for one that is none."""

    def answers(self, network: Network, preprocess: Preprocess, frame: Frame) -> Tensors:
        """All that PyTorch gives for ``frame`` that could be an output of the graph, with the batch axis."""

    def fit(self, image: Frame, frame: tuple[int, int], preprocess: Preprocess) -> Frame:
        """An ``image`` of any size as a camera of size ``frame`` would have it."""

    def detection(self, variant: Variant) -> Detection | None:
        """The manifest's part on boxes."""


class Semantic:
    outputs: tuple[str, ...] = ("logits",)

    def ends(self, graph: ir.Model, preprocess: Preprocess, frame: tuple[int, int], output: str) -> None:
        frame_io.apply(graph, preprocess, frame, output)

    def answers(self, network: Network, preprocess: Preprocess, frame: Frame) -> Tensors:
        logits, labels = Reference(network.module, preprocess).run(frame)
        return {"logits": logits[None], "labels": labels[None]}

    def fit(self, image: Frame, frame: tuple[int, int], preprocess: Preprocess) -> Frame:
        return resize_frame(image, frame)

    def detection(self, variant: Variant) -> Detection | None:
        return None


class Boxes:
    """The graph gives the raw outputs; boxes are the runtime's (edgeseg.boxes), the same for every target."""

    outputs: tuple[str, ...] = ("class_logits", "box_deltas")

    def ends(self, graph: ir.Model, preprocess: Preprocess, frame: tuple[int, int], output: str) -> None:
        if output != "labels":
            raise InputError(f"--output {output} is of label maps: a detector's outputs are always its raw ones")
        frame_io.apply_frame(graph, preprocess, frame)

    def answers(self, network: Network, preprocess: Preprocess, frame: Frame) -> Tensors:
        found = DetectionReference(network.module, preprocess).run(frame)
        return {name: values[None] for name, values in zip(self.outputs, found, strict=True)}

    def fit(self, image: Frame, frame: tuple[int, int], preprocess: Preprocess) -> Frame:
        return letterbox_frame(image, frame, preprocess.mean)[0]

    def detection(self, variant: Variant) -> Detection | None:
        assert variant.anchors is not None
        return Detection(variant.anchors)


TASKS: dict[str, Task] = {"semantic": Semantic(), "detection": Boxes()}
