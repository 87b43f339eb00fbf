"""Frozen facts about networks and tensors: what every part of edgeseg may know. No dependencies."""

from __future__ import annotations

from dataclasses import dataclass

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
    ``order``, "RGB" or "BGR".
    """

    size: tuple[int, int]
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (255.0, 255.0, 255.0)
    order: str = "RGB"


@dataclass(frozen=True)
class ClassSpec:
    """A class of a data set: its name and the RGB colour it is drawn in."""

    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Variant:
    """One published form of a network: what it costs, how its weights want their input, what they scored.

    ``size`` is the input (height, width) to which ``gmacs`` (10⁹ multiply-accumulates) belong, ``classes`` the
    number of outputs to which they and ``parameters`` belong."""

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


@dataclass(frozen=True)
class ModelSpec:
    """A reference network; ``task`` is "semantic" or "detection". Inputs must be multiples of ``stride``. The
    first of ``variants`` is the paper's."""

    name: str
    title: str
    task: str
    stride: int
    variants: tuple[Variant, ...]
