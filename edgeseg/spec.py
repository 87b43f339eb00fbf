"""Frozen facts about networks and tensors: what every part of edgeseg may know. No dependencies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PRECISIONS = ("fp32", "fp16", "int8")
OUTPUTS = ("labels", "logits", "both")


@dataclass(frozen=True)
class TensorSpec:
    """A named tensor at an engine's boundary: static ``shape``, ``dtype`` as NumPy spells it."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Preprocess:
    """How a camera frame becomes the network's input: ``(frame - mean) / std``, in 8-bit units.

    ``size`` is the network's input (height, width); the frame is resized to it (bilinear, half-pixel
    centres) where it differs. ``mean`` and ``std`` are per channel in the network's channel order
    ``order``, "RGB" or "BGR". With ``letterbox`` the frame keeps its shape, stands at the top left, and the
    rest of the input is ``mean``.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (255.0, 255.0, 255.0)
    order: str = "RGB"
    letterbox: bool = False

    def fitted(self, frame: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) that a frame of (height, width) has within the network's input."""
        if not self.letterbox:
            return self.size
        scale = min(self.size[0] / frame[0], self.size[1] / frame[1])
        height, width = (max(1, min(n, int(f * scale + 1e-6))) for f, n in zip(frame, self.size, strict=True))
        return height, width


@dataclass(frozen=True)
class Anchors:
    """The boxes that a detector starts from (arXiv:1708.02002, section 4): at each position of the maps of
    1/2**level of the input, first to last of ``levels``, squares of ``scale`` positions times 2**(i / scales) for
    i < ``scales``, each as wide and as high as the (width, height) factors of ``aspects`` make it."""

    levels: tuple[int, int] = (3, 7)
    scale: float = 4.0
    scales: int = 3
    aspects: tuple[tuple[float, float], ...] = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))


@dataclass(frozen=True)
class Detection:
    """How a detector's raw outputs become boxes. ``nms`` says where: "graph" (the engine's outputs are objects) or
    "runtime" (they are raw, edgeseg.boxes makes objects of them), with one result.
    A class of an anchor counts from ``score_threshold`` on; of boxes of one class that overlap by an IoU over
    ``iou_threshold`` the best stays; the best ``max_detections`` of a frame are kept. ``extra`` holds the keys that
    this version does not know."""

    anchors: Anchors
    nms: str = "runtime"
    score_threshold: float = 0.05
    iou_threshold: float = 0.5
    max_detections: int = 100
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassSpec:
    """A class of a data set: its name and the RGB colour it is drawn in."""

    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Variant:
    """One published form of a network: what it costs, how its weights want their input, what they scored.

    ``size`` is the input (height, width) to which ``gmacs`` (10⁹ multiply-accumulates) belong, ``classes`` the
    number of outputs to which they and ``parameters`` belong. ``float_outputs`` are outputs whose own layers stay in
    float in an int8 graph: measured to cost more than they save."""

    name: str
    paper: str
    size: tuple[int, int]
    classes: int
    parameters: int
    gmacs: float
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (255.0, 255.0, 255.0)
    order: str = "RGB"
    published: str = ""
    anchors: Anchors | None = None
    float_outputs: tuple[str, ...] = ()

    def preprocess(self, size: tuple[int, int]) -> Preprocess:
        """What this variant's weights want, at a network input of ``size``. Detectors see undistorted frames."""
        return Preprocess(size, self.mean, self.std, self.order, letterbox=self.anchors is not None)


@dataclass(frozen=True)
class ModelSpec:
    """A reference network; ``task`` is "semantic" or "detection". Inputs must be multiples of ``stride``. The
    first of ``variants`` is the paper's."""

    name: str
    title: str
    task: str
    stride: int
    variants: tuple[Variant, ...]

    def fitting(self, frame: tuple[int, int]) -> tuple[int, int]:
        """The least network input (height, width) that a frame of (height, width) fits into."""
        height, width = (-(-n // self.stride) * self.stride for n in frame)
        return height, width
