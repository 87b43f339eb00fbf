"""What a build does for a task: how the graph ends, what it must answer, how images become frames."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.boxes import Decoder, clear_of_cut
from edgeseg.export._score import BoxScore, LabelScore, Score
from edgeseg.export.passes import frame_io, suppress
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
        """Move both ends into ``graph``; ``output`` as the request has it."""

    def answers(self, network: Network, preprocess: Preprocess, frame: Frame) -> Tensors:
        """All that PyTorch gives for ``frame`` that could be an output of the graph, with the batch axis."""

    def fit(self, image: Frame, frame: tuple[int, int], preprocess: Preprocess) -> Frame:
        """An ``image`` of any size as a camera of size ``frame`` would have it."""

    def detection(self, variant: Variant) -> Detection | None:
        """The manifest's part on boxes, where the runtime makes them."""

    def score(
        self, variant: Variant, preprocess: Preprocess, frame: tuple[int, int], classes: int, ignore_index: int | None
    ) -> Score:
        """The metric of the task, over no frame yet."""

    def suppressed(
        self, graph: ir.Model, expected: Tensors, how: Detection, preprocess: Preprocess, output: str
    ) -> tuple[ir.Model, Tensors, Detection]:
        """For a target that makes boxes in the graph: its form of ``graph``, what that must answer where ``graph`` must
        answer ``expected``, and the manifest's part."""


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

    def score(
        self, variant: Variant, preprocess: Preprocess, frame: tuple[int, int], classes: int, ignore_index: int | None
    ) -> Score:
        return LabelScore(frame, classes, ignore_index)

    def suppressed(
        self, graph: ir.Model, expected: Tensors, how: Detection, preprocess: Preprocess, output: str
    ) -> tuple[ir.Model, Tensors, Detection]:
        raise AssertionError("label maps have no boxes")


class Boxes:
    """The graph that all targets share gives the raw outputs: int8 is decided on it. Boxes come behind, in the graph
    where the target makes them there, else in the runtime (edgeseg.boxes)."""

    outputs: tuple[str, ...] = suppress.RAW

    def ends(self, graph: ir.Model, preprocess: Preprocess, frame: tuple[int, int], output: str) -> None:
        frame_io.apply_frame(graph, preprocess, frame)

    def answers(self, network: Network, preprocess: Preprocess, frame: Frame) -> Tensors:
        found = DetectionReference(network.module, preprocess).run(frame)
        return {name: values[None] for name, values in zip(self.outputs, found, strict=True)}

    def fit(self, image: Frame, frame: tuple[int, int], preprocess: Preprocess) -> Frame:
        return letterbox_frame(image, frame, preprocess.mean)[0]

    def detection(self, variant: Variant) -> Detection:
        assert variant.anchors is not None
        return Detection(variant.anchors)

    def score(
        self, variant: Variant, preprocess: Preprocess, frame: tuple[int, int], classes: int, ignore_index: int | None
    ) -> Score:
        return BoxScore(frame, classes, self.detection(variant), preprocess)

    def suppressed(
        self, graph: ir.Model, expected: Tensors, how: Detection, preprocess: Preprocess, output: str
    ) -> tuple[ir.Model, Tensors, Detection]:
        if output == "logits":
            return graph, expected, how
        frame = expected["frame"].shape[1:3]
        found = Decoder(how, preprocess, (frame[0], frame[1]))(*(expected[name][0] for name in suppress.RAW))
        objects = {
            "boxes": found.boxes[None], "scores": found.scores[None], "classes": found.classes[None],
            "count": np.array([found.count], np.int32),
        }  # fmt: skip
        # Where no object is clear of the cut, rounding may decide which ones there are, and they prove nothing; nor do
        # they in int8, where two correct engines may differ by as much as either does from float. There the raw outputs
        # stay beside, to be compared.
        rounds = any(node.op_type == "QuantizeLinear" for node in graph.graph)
        proves = not rounds and found.scores[0] > clear_of_cut(found, how.score_threshold)
        form = graph.clone()
        suppress.apply(form, how, preprocess, (frame[0], frame[1]), keep_raw=output == "both" or not proves)
        return form, {**expected, **objects}, replace(how, nms="graph")


TASKS: dict[str, Task] = {"semantic": Semantic(), "detection": Boxes()}
