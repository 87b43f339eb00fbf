"""``manifest.json``: what an artifact is, checked on the way in. Schema 1 (docs/artifact.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from edgeseg.errors import ArtifactError
from edgeseg.spec import PRECISIONS, Anchors, ClassSpec, Detection, Preprocess, TensorSpec

SCHEMA = 1
MOST_DETECTIONS = 100_000
MOST_ELEMENTS = 1 << 31  # of a tensor
MOST_SIDE, MOST_ANCHORS = 1 << 15, 1 << 24


@dataclass(frozen=True)
class FileEntry:
    """A file of the artifact: its SHA-256 in hex, and its size."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Weights:
    """Where the weights came from: a path as given, ``packaged:NAME``, or ``random:SEED``."""

    source: str
    sha256: str


@dataclass(frozen=True)
class ModelEntry:
    """The network an artifact was made from."""

    name: str
    variant: str
    task: str
    parameters: int
    gmacs: float
    paper: str
    weights: Weights


@dataclass(frozen=True)
class Manifest:
    """The facts of one artifact. ``unproven``: why its engine has not met the golden outputs yet, None where it has.
    ``extra`` holds keys this version does not know, and writes them back."""

    model: ModelEntry
    target: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocess: Preprocess
    classes: tuple[ClassSpec, ...]
    ignore_index: int | None
    files: dict[str, FileEntry]
    calibration: dict[str, Any] | None
    toolchain: dict[str, str]
    device: dict[str, Any] | None
    onnx_sha256: str
    created: str
    detection: Detection | None = None
    unproven: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def frame(self) -> tuple[int, int]:
        """The (height, width) of the frames that the engine takes."""
        return self.inputs[0].shape[1], self.inputs[0].shape[2]

    def to_json(self) -> str:
        document = {"schema": SCHEMA, **asdict(self)}
        detection = document.pop("detection")
        if detection is not None:  # only detectors have it
            unknown = detection.pop("extra")
            document["detection"] = {**detection, **unknown}
        if document["unproven"] is None:
            del document["unproven"]
        document.update(document.pop("extra"))
        return json.dumps(document, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Raises ArtifactError where the text is not a manifest of this schema."""
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArtifactError(
                f"manifest.json is not JSON ({error}): the artifact is damaged; build it again"
            ) from None
        if not isinstance(document, dict) or not isinstance(document.get("schema"), int):
            raise ArtifactError("manifest.json has no schema number: this is not an edgeseg artifact")
        if document["schema"] != SCHEMA:
            raise ArtifactError(
                f"manifest.json has schema {document['schema']}, this edgeseg reads schema {SCHEMA}: update edgeseg"
            )
        try:
            return cls._read(document)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ArtifactError(
                f"manifest.json is incomplete or malformed ({error!r}): build the artifact again"
            ) from None

    @classmethod
    def _read(cls, document: Mapping[str, Any]) -> Manifest:
        rest = {k: v for k, v in document.items() if k != "schema"}
        model = dict(rest.pop("model"))
        weights = Weights(**{k: str(model["weights"][k]) for k in ("source", "sha256")})
        entry = ModelEntry(
            **{k: _text(model[k]) for k in ("name", "variant", "task", "paper")},
            parameters=_whole(model["parameters"]),
            gmacs=_real(model["gmacs"]),
            weights=weights,
        )
        read = cls(
            model=entry,
            target=_text(rest.pop("target")),
            precision=_text(rest.pop("precision")),
            inputs=_tensors(rest.pop("inputs")),
            outputs=_tensors(rest.pop("outputs")),
            preprocess=_preprocess(rest.pop("preprocess")),
            classes=tuple(ClassSpec(_text(c["name"]), _color(c["color"])) for c in rest.pop("classes")),
            ignore_index=None if (index := rest.pop("ignore_index")) is None else int(index),
            files={
                _file_name(name): FileEntry(_text(f["sha256"]), int(f["bytes"]))
                for name, f in rest.pop("files").items()
            },
            calibration=_optional_dict(rest.pop("calibration")),
            toolchain={str(k): str(v) for k, v in rest.pop("toolchain").items()},
            device=_optional_dict(rest.pop("device")),
            onnx_sha256=_text(rest.pop("onnx_sha256")),
            created=_text(rest.pop("created")),
            detection=None if (detection := rest.pop("detection", None)) is None else _detection(detection),
            unproven=None if (unproven := rest.pop("unproven", None)) is None else _text(unproven),
            extra=rest,
        )
        if len(read.inputs[0].shape) != 4:
            raise ValueError(f"the input {read.inputs[0].name!r} is no batch of frames")
        if read.precision not in PRECISIONS:
            raise ValueError(f"precision {read.precision!r}")
        if read.detection is not None and _anchors(read.detection.anchors, read.preprocess.size) > MOST_ANCHORS:
            raise ValueError(f"more than {MOST_ANCHORS} anchors")
        return read


def _anchors(anchors: Anchors, size: tuple[int, int]) -> int:
    """How many there are, or somewhat more: each level has a quarter of the one before it."""
    height, width = (-(-n // (1 << anchors.levels[0])) for n in size)
    levels = anchors.levels[1] - anchors.levels[0] + 1
    return min(levels, 2) * height * width * anchors.scales * len(anchors.aspects)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    value.encode()  # half a surrogate pair is text to JSON, but to nobody else
    return value


def _file_name(name: str) -> str:
    if PurePosixPath(name).name != name or "\\" in name or "\0" in name or name in ("", ".", "..", "manifest.json"):
        raise ValueError(f"file name {name!r} leaves the artifact's folder")
    return name


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _real(value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is not a finite number")
    return float(value)


def _tensors(values: Any) -> tuple[TensorSpec, ...]:
    specs = tuple(TensorSpec(_text(v["name"]), tuple(_whole(d) for d in v["shape"]), _text(v["dtype"])) for v in values)
    if not specs or any(d <= 0 for s in specs for d in s.shape):
        raise ValueError("a tensor without a positive shape")
    if any(math.prod(s.shape) > MOST_ELEMENTS for s in specs):
        raise ValueError(f"a tensor of more than {MOST_ELEMENTS} elements")
    return specs


def _preprocess(value: Mapping[str, Any]) -> Preprocess:
    size, mean, std = _pair(value["size"]), _triple(value["mean"]), _triple(value["std"])
    if not all(1 <= n <= MOST_SIDE for n in size):
        raise ValueError(f"size {size}")
    return Preprocess(size, mean, std, _text(value["order"]), letterbox=bool(value.get("letterbox", False)))


def _detection(value: Mapping[str, Any]) -> Detection:
    rest = dict(value)
    anchors = rest.pop("anchors")
    first, last = _pair(anchors["levels"])
    scales, aspects = int(anchors["scales"]), tuple((float(w), float(h)) for w, h in anchors["aspects"])
    score, overlap, most = (rest.pop(key) for key in ("score_threshold", "iou_threshold", "max_detections"))
    if not (1 <= first <= last <= 16 and 1 <= scales <= 16 and aspects and 0 <= score <= 1 and 0 <= overlap <= 1):
        raise ValueError(f"detection {value!r}")
    if not 1 <= int(most) <= MOST_DETECTIONS:
        raise ValueError(f"max_detections {most!r}")
    return Detection(
        anchors=Anchors((first, last), float(anchors["scale"]), scales, aspects),
        nms=_text(rest.pop("nms")),
        score_threshold=float(score),
        iou_threshold=float(overlap),
        max_detections=int(most),
        extra=rest,
    )


def _pair(value: Any) -> tuple[int, int]:
    height, width = value
    return int(height), int(width)


def _triple(value: Any) -> tuple[float, float, float]:
    a, b, c = value
    return _real(a), _real(b), _real(c)


def _color(value: Any) -> tuple[int, int, int]:
    r, g, b = (int(v) for v in value)
    return r, g, b


def _optional_dict(value: Any) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise TypeError(f"{value!r} is not an object")
    return value
