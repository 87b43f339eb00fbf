"""From a request to artifacts: capture once, quantize once, compile and self-check each target."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg import __version__, models
from edgeseg.artifact import entries, whole_folder, write_golden, write_whole
from edgeseg.datasets import Dataset, open_dataset
from edgeseg.errors import CheckFailed, InputError
from edgeseg.export import _targets
from edgeseg.export._bisect import first_wrong
from edgeseg.export._exact import Exact, run_exactly
from edgeseg.export._frames import Frames
from edgeseg.export._score import Answer, points
from edgeseg.export._tasks import TASKS, Tensors
from edgeseg.export.capture import capture
from edgeseg.export.passes import activation_before_concat, fold_batchnorm, simplify, unpool
from edgeseg.export.quantize import budget
from edgeseg.export.quantize.bias import Mean, input_means
from edgeseg.export.quantize.calibrate import Calibration, calibration
from edgeseg.export.quantize.calibrators import DEFAULT, calibrator
from edgeseg.export.quantize.dominant import dominant
from edgeseg.export.quantize.heads import layers_of
from edgeseg.export.quantize.islands import WHY, joined
from edgeseg.export.quantize.layer import Layer
from edgeseg.export.quantize.observe import observe
from edgeseg.export.quantize.qdq import quantize
from edgeseg.export.quantize.store import Store, default_folder
from edgeseg.export.sensitivity.layers import noise, sensitivity
from edgeseg.export.sensitivity.operators import NoCounterpart
from edgeseg.export.sensitivity.weigh import weigh
from edgeseg.manifest import Manifest
from edgeseg.metrics import agreement, sqnr_db
from edgeseg.progress import Progress, Silent
from edgeseg.selfcheck import answering, selfcheck
from edgeseg.spec import OUTPUTS, PRECISIONS, ClassSpec, TensorSpec

ONNX_FOLDER = "onnx"
Quantized = tuple[ir.Model, Tensors, dict[str, Any]]  # the graph, its golden outputs, the manifest's part on it
BALANCE = 16  # frames that tell the channels' ranges and means
TELLING = 2  # frames that tell the layers' noise
FAINT = 0.001  # noise relative to the answer, 30 dB, below which int8 is left as it is
LEFT = 2 / 3  # of the noise, at most, with layers in float: where they take less away they are not worth their work
GRAPH = "graph"  # stands for targets whose engines cannot run here
MARGIN = 0.5  # of a budget: what the graph may lose of it, as engines round on their own besides


@dataclass(frozen=True)
class BuildRequest:
    """What to build. ``size`` is the network's input, ``frame`` the camera's (height, width); each defaults to
    the other, both to the variant's. ``classes`` is a number or the classes themselves; by default the
    checkpoint's number, named by ``data`` where it fits. ``calibrator`` as ``edgeseg.export.quantize.calibrators`` has
    them; with ``cache`` what calibration frames showed is kept for the next build (docs/int8.md). int8 leaves layers in
    float where few bring much of its noise, unless ``all_int8``. ``max_drop`` is how many points of mIoU or AP int8 may
    lose on the images of ``labels``, by default those of ``data``: layers stay in float as far as that takes in every
    target's engine."""

    model: str
    weights: str | Path | None = None
    variant: str | None = None
    classes: int | tuple[ClassSpec, ...] | None = None
    size: tuple[int, int] | None = None
    frame: tuple[int, int] | None = None
    targets: tuple[str, ...] = ("openvino",)
    precisions: tuple[str, ...] = ("fp32",)
    output: str = "labels"
    data: str | None = None
    calib_images: int = 64
    calibrator: str = DEFAULT
    cache: bool = True
    all_int8: bool = False
    max_drop: float | None = None
    labels: str | None = None
    out: Path = field(default_factory=lambda: Path("build"))


def build(request: BuildRequest, progress: Progress | None = None) -> list[Path]:
    """Compile one artifact for each target × precision; returns their folders.

    Every artifact is written to a temporary folder, opened there by its own runtime in a fresh process,
    compared with the golden outputs, and only then moved into place. One that this machine cannot run, since it has no
    device of the kind, is kept as ``unproven``, which its manifest says.

    Raises:
        InputError: a wrong part of the request, named. MissingExtra: a target's package is not installed.
        CheckFailed: a compiled engine does not give the golden outputs.
    """
    return list(_Build(request, progress or Silent()).run())


def layer_noise(request: BuildRequest, progress: Progress | None = None) -> list[Layer]:
    """What each layer of the network costs in int8, in the graph's order; nothing is written.

    Raises:
        InputError: a wrong part of the request, named.
    """
    work = _Build(replace(request, precisions=("int8",)), progress or Silent())
    with work.progress.task("capture and rewrite"):
        graph = work._graph()
    return work.sensitivity(replace(work._calibrated(graph), floats={}), work._least_levels())


@dataclass(frozen=True)
class Calibrated:
    """``graph``: the float graph with balanced channels. ``floats``: layers that int8 leaves in float, and why.
    ``lost``: points of the task's metric, by target, where a budget was asked for."""

    graph: ir.Model
    calibration: Calibration
    means: dict[str, Mean]
    floats: dict[str, str]
    lost: dict[str, float] | None = None

    def quantized(self, levels: int, keep: Collection[str]) -> ir.Model:
        return quantize(self.graph, self.calibration, levels, keep, self.means)

    def with_floats(self, more: Mapping[str, str]) -> Calibrated:
        """With ``more`` layers in float and those that are cheaper there then."""
        floats = {**self.floats, **more}
        return replace(self, floats={**floats, **dict.fromkeys(joined(self.graph, floats), WHY)})


class _Build:
    def __init__(self, request: BuildRequest, progress: Progress) -> None:
        self.request, self.progress = request, progress
        _validate(request)
        self.targets = self._load_targets()
        self.dataset = open_dataset(request.data) if request.data else None
        count = len(request.classes) if isinstance(request.classes, tuple) else request.classes
        self.network = models.load(request.model, request.weights, request.variant, count)
        v = self.network.variant
        self.size = request.size or request.frame or v.size
        self.frame = request.frame or self.size
        stride = self.network.spec.stride
        if any(d <= 0 or d % stride for d in self.size):
            raise InputError(
                f"{self.network.spec.title} takes sizes that are multiples of {stride}, not {_by(self.size)}:"
                f" give --size, and --frame for the camera's own {_by(self.frame)}"
            )
        self.task, self.preprocess = TASKS[self.network.spec.task], v.preprocess(self.size)
        self.entry = self.network.entry(self.size)
        self.classes, self.ignore_index = _classes(request, self.network.classes, self.dataset)

    def _load_targets(self) -> list[tuple[str, str, _targets.Target]]:
        return [(t, p, _targets.load(t, p)) for t in self.request.targets for p in self.request.precisions]

    def run(self) -> Iterator[Path]:
        with self.progress.task("capture and rewrite"):
            graph = self._graph()
        golden = self._golden_frame()
        exact = {"frame": golden[None], **self.task.answers(self.network, self.preprocess, golden)}
        calibrated = self._with_floats(self._calibrated(graph)) if "int8" in self.request.precisions else None
        quantized: dict[int, Quantized] = {}
        for name, precision, target in self.targets:
            with self.progress.task(f"compile {name} {precision}"):
                model, expected, entry = graph, exact, None
                if precision == "int8":
                    assert calibrated is not None
                    levels = target.weight_levels()
                    if levels not in quantized:
                        quantized[levels] = self._quantize(graph, calibrated, levels, golden)
                    model, expected, entry = quantized[levels]
                yield self._artifact(name, precision, target, model, expected, entry)

    def _graph(self) -> ir.Model:
        graph = capture(self.network.module, self.size, outputs=self.task.outputs)
        for rewrite in (simplify, fold_batchnorm, activation_before_concat, unpool):
            rewrite.apply(graph)
        self.task.ends(graph, self.preprocess, self.frame, self.request.output)
        return graph

    def _quantize(self, graph: ir.Model, found: Calibrated, levels: int, golden: NDArray[np.uint8]) -> Quantized:
        model = found.quantized(levels, found.floats)
        exact, rounded = (run_exactly(m, golden[None]) for m in (graph, model))
        noise = {name: sqnr_db(exact[name], v) for name, v in rounded.items() if v.dtype == np.float32}
        entry = _calibration_entry(found, levels, noise)
        if "labels" in rounded:
            entry["label_agreement"] = round(agreement(exact["labels"], rounded["labels"]), 4)
        if found.lost is not None:
            entry["max_drop"] = {
                "points": self.request.max_drop, "lost": found.lost, "labels": self.request.labels or self.request.data,
            }  # fmt: skip
        return model, {"frame": golden[None], **rounded}, entry

    def _golden_frame(self) -> NDArray[np.uint8]:
        dataset = self.dataset or open_dataset(f"streets:1@{_by(self.frame)}")
        return self.task.fit(dataset[0].frame, self.frame, self.preprocess)

    def _calibrated(self, graph: ir.Model) -> Calibrated:
        assert self.dataset is not None
        count = min(self.request.calib_images, len(self.dataset))
        sizes = {"frame size": _by(self.frame), "network size": _by(self.size)}
        few, frames = self._frames(min(count, BALANCE)), self._frames(count)
        seen = observe(graph, few, frames, sizes, self._store(), self.progress, self._weigh)
        found = calibration(seen.histograms, self.request.calibrator, seen.facts)
        with self.progress.task("correct biases", len(few)) as done:
            means = input_means(seen.model, found.ranges, few, done)
        outputs = self.network.variant.float_outputs
        floats = dict.fromkeys(layers_of(seen.model, outputs), f"serves {' and '.join(outputs)} alone")
        return Calibrated(seen.model, found, means, floats)

    def _with_floats(self, found: Calibrated) -> Calibrated:
        """With those layers in float that the budget takes or, without one, that bring most of the noise."""
        if self.request.max_drop is not None:
            return self._within_budget(found, self.request.max_drop)
        if self.request.all_int8:
            return found
        levels = self._least_levels()
        try:
            whole = self._noise(found, levels)
            if whole <= FAINT:
                return found
            some = found.with_floats(dominant(self.sensitivity(found, levels)))
            return some if self._noise(some, levels) <= LEFT * whole else found
        except NoCounterpart as error:
            self.progress.note(f"no layer is left in float, since the noise of each is not known: {error}")
            return found

    def _noise(self, found: Calibrated, levels: int) -> float:
        return noise(found.graph, found.quantized(levels, found.floats), self._telling())

    def _within_budget(self, found: Calibrated, allowed: float) -> Calibrated:
        """With so many more layers in float that the budget holds."""
        data = open_dataset(self.request.labels) if self.request.labels else self.dataset
        assert data is not None
        reference = self._points("float", Exact(found.graph).answer, data)
        if np.isnan(reference):
            raise InputError("--max-drop needs images with labels: give --labels KIND:PATH[:SPLIT]")
        measured: dict[frozenset[str], dict[str, float]] = {}

        def drop(keep: Sequence[str]) -> float:
            some, lost = found.with_floats(dict.fromkeys(keep, "")), dict[str, float]()
            quantized = cache(lambda levels: some.quantized(levels, some.floats))
            for name, target in self._int8_targets():
                here = self._runs_here(target)
                judged = name if here else GRAPH
                if judged in lost:
                    continue
                model = quantized(target.weight_levels())
                with self._engine(name, target, model) if here else nullcontext(Exact(model).answer) as answer:
                    what = f"int8, {judged}, {len(some.floats)} layers in float"
                    lost[judged] = reference - self._points(what, answer, data)
                if _share(lost) > allowed:
                    break  # what the others lose changes nothing
            measured[frozenset(keep)] = lost
            return _share(lost)

        keep, lost = budget.within(allowed, lambda: self.sensitivity(found, self._least_levels()), drop)
        if lost > allowed:
            raise CheckFailed(f"int8 loses more than --max-drop {allowed:g} with all layers in float: allow {lost:.2g}")
        why = f"--max-drop {allowed:g}: kept so that no more is lost on {len(data)} images"
        return replace(found.with_floats(dict.fromkeys(keep, why)), lost=measured[frozenset(keep)])

    def _runs_here(self, target: _targets.Target) -> bool:
        return _targets.unproven(target) is None

    @contextmanager
    def _engine(self, name: str, target: _targets.Target, model: ir.Model) -> Iterator[Answer]:
        """What ``target``'s engine of ``model`` answers, in a process of its own."""
        golden = self._golden_frame()[None]
        expected = {"frame": golden, **run_exactly(model, golden)}
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / self._folder(name, "int8")
            folder.mkdir()
            files = target.compile(model, "int8", folder)
            _write(folder, self._manifest(name, "int8", target, model, expected, None, "0" * 64), files, expected)
            with answering(folder) as answer:
                yield answer

    def _int8_targets(self) -> list[tuple[str, _targets.Target]]:
        return [(name, target) for name, precision, target in self.targets if precision == "int8"]

    def _least_levels(self) -> int:
        return min(target.weight_levels() for _, target in self._int8_targets())

    def sensitivity(self, found: Calibrated, levels: int) -> list[Layer]:
        """What each layer that is in int8 costs there, in the graph's order."""
        frames = self._telling()
        with self.progress.task("noise of each layer", len(frames)) as done:
            layers = sensitivity(
                found.graph, lambda more: found.quantized(levels, {*found.floats, *more}), frames, done
            )
        return [layer for layer in layers if layer.name not in found.floats]

    def _weigh(self, *given: Any) -> None:
        try:
            weigh(*given)
        except NoCounterpart as error:
            self.progress.note(f"ranges are those of the least squared error, since its weights are not known: {error}")

    def _telling(self) -> list[NDArray[np.uint8]]:
        assert self.dataset is not None
        return list(self._frames(min(TELLING, len(self.dataset))))

    def _points(self, what: str, answer: Answer, data: Dataset) -> float:
        classes = len(self.classes)
        score = self.task.score(self.network.variant, self.preprocess, self.frame, classes, data.ignore_index)
        with self.progress.task(f"metric of {what}", len(data)) as done:
            return points(answer, data, score, done)

    def _store(self) -> Store | None:
        name = f"{self.entry.name} {self.entry.variant} on {self.request.data}"
        return Store(default_folder(), name) if self.request.cache else None

    def _frames(self, count: int) -> Frames:
        assert self.dataset is not None
        return Frames(self.dataset, count, lambda image: self.task.fit(image, self.frame, self.preprocess))

    def _artifact(
        self, name: str, precision: str, target: _targets.Target, model: ir.Model,
        expected: Tensors, calibration: dict[str, Any] | None,
    ) -> Path:  # fmt: skip
        onnx_bytes = ir.to_proto(model).SerializeToString(deterministic=True)
        digest = hashlib.sha256(onnx_bytes).hexdigest()
        path = self.request.out / self._folder(name, precision)
        how = self.task.detection(self.network.variant)
        if how is not None and _targets.suppresses(target):
            model, expected, how = self.task.suppressed(model, expected, how, self.preprocess, self.request.output)
        with whole_folder(path) as folder:
            files = target.compile(model, precision, folder)
            manifest = self._manifest(name, precision, target, model, expected, calibration, digest)
            manifest = replace(manifest, detection=how)
            _write(folder, manifest, files, expected)
            if manifest.unproven is None:
                self._check(folder, path.name, target, model, manifest, expected)
        _keep_onnx(self.request.out / ONNX_FOLDER, digest, onnx_bytes)
        return path

    def _check(
        self, folder: Path, name: str, target: _targets.Target, model: ir.Model, manifest: Manifest, expected: Tensors
    ) -> None:
        try:
            selfcheck(folder, name)
        except CheckFailed as error:
            if manifest.precision != "int8":
                raise
            with self.progress.task(f"{name} failed its self-check: looking for the first wrong layer"):
                found = first_wrong(model, target, manifest, expected["frame"])
            raise CheckFailed(f"{error}; {found}") from None

    def _manifest(
        self, name: str, precision: str, target: _targets.Target, model: ir.Model,
        expected: Tensors, calibration: dict[str, Any] | None, digest: str,
    ) -> Manifest:  # fmt: skip
        """All but the files."""
        outputs = [str(o.name) for o in model.graph.outputs]
        return Manifest(
            model=self.entry,
            target=name,
            precision=precision,
            inputs=(TensorSpec("frame", (1, *self.frame, 3), "uint8"),),
            outputs=tuple(TensorSpec(k, expected[k].shape, str(expected[k].dtype)) for k in outputs),
            preprocess=self.preprocess,
            classes=self.classes,
            ignore_index=self.ignore_index,
            files={},
            calibration=calibration,
            toolchain={"edgeseg": __version__, "torch": version("torch"), **target.toolchain()},
            device=_targets.device(target),
            onnx_sha256=digest,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            detection=self.task.detection(self.network.variant),
            unproven=_targets.unproven(target),
        )

    def _folder(self, target: str, precision: str) -> str:
        spec, variant = self.network.spec, self.network.variant.name
        middle = "" if variant == spec.variants[0].name else f"-{variant}"
        return f"{spec.name}{middle}-{_by(self.frame)}-{target}-{precision}"


def _share(lost: Mapping[str, float]) -> float:
    """The most that is lost of a budget."""
    return max(points / MARGIN if name == GRAPH else points for name, points in lost.items())


def _write(folder: Path, manifest: Manifest, files: list[str], expected: Tensors) -> None:
    """The golden tensors, and the manifest with ``files`` and them."""
    names = {"frame", *(spec.name for spec in manifest.outputs)}
    golden = write_golden(folder, {k: v for k, v in expected.items() if k in names})
    manifest = replace(manifest, files=entries(folder, [*files, golden]))
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")


def _validate(request: BuildRequest) -> None:
    for what, values, known in (
        ("precision", request.precisions, PRECISIONS),
        ("output", (request.output,), OUTPUTS),
    ):
        for value in values:
            if value not in known:
                raise InputError(f"unknown {what} '{value}': use one of {', '.join(known)}")
    if "int8" in request.precisions and not request.data:
        raise InputError("int8 needs images to calibrate on: give --data KIND:PATH[:SPLIT]")
    if request.max_drop is not None and not (request.max_drop >= 0 and "int8" in request.precisions):
        raise InputError("--max-drop is how many points int8 may lose, 0 or more: give --precision int8 with it")
    if request.all_int8 and request.max_drop is not None:
        raise InputError("--all-int8 keeps no layer in float, --max-drop those that it takes: give one of them")
    if request.labels and request.max_drop is None:
        raise InputError("--labels are what --max-drop is held on: give both")
    calibrator(request.calibrator)
    if request.calib_images < 1:
        raise InputError(f"--calib-images must be at least 1, not {request.calib_images}")


def _classes(request: BuildRequest, count: int, dataset: Dataset | None) -> tuple[tuple[ClassSpec, ...], int | None]:
    if isinstance(request.classes, tuple):
        return request.classes, None
    if dataset is not None and len(dataset.classes) in (count, count + 1):
        return dataset.classes[:count], dataset.ignore_index
    rng = np.random.default_rng(count)
    colors = rng.integers(40, 230, (count, 3)).tolist()
    return tuple(ClassSpec(f"class {i}", (r, g, b)) for i, (r, g, b) in enumerate(colors)), None


def _calibration_entry(found: Calibrated, levels: int, noise: dict[str, float]) -> dict[str, Any]:
    """``noise``: by output, the dB of the quantized graph against the float one on the golden frame."""
    calibration = found.calibration
    return {
        "digest": calibration.digest,
        "method": calibration.method,
        "images": calibration.images,
        "weight_levels": levels,
        "float_layers": found.floats,
        "noise_db": {name: round(db, 2) for name, db in noise.items()},
        "parts": calibration.parts,
    }


def _keep_onnx(folder: Path, digest: str, content: bytes) -> None:
    """The graph an artifact was made from, by its hash: ``check`` compares int8 engines with it."""
    path = folder / f"{digest}.onnx"
    if not path.exists():
        write_whole(path, content)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
