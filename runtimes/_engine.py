"""An opened artifact: verified, self-tested, and ready for frames."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg import ticket
from edgeseg.artifact import load
from edgeseg.boxes import Detections
from edgeseg.errors import ArtifactError, InputError
from edgeseg.manifest import Manifest
from edgeseg.runtimes._detect import Detector
from edgeseg.runtimes._runtime import Outputs, Runtime, check_feeds
from edgeseg.runtimes._selftest import selftest as run_selftest


def open_artifact(path: str | Path, *, selftest: bool = True, threads: int | None = None, **options: Any) -> Engine:
    """Open the artifact folder at ``path`` on this machine.

    Verifies the files' hashes, loads the target's runtime with ``threads`` threads (None: the target's own
    choice) and the target's own ``options`` (TensorRT: ``device``, ``cuda_graph``; OpenVINO: ``throughput``) and,
    unless ``selftest`` is False, runs the golden frame and compares its outputs.

    Raises:
        ArtifactError: not an artifact, a build ticket, altered, of a newer schema, or of a target unknown here.
        InputError: an option that the target does not have.
        MissingExtra: the target's package is not installed.
        DeviceError: the target's device is missing, too full, or failed.
        CheckFailed: the golden outputs were not met.
    """
    artifact = load(path)
    if ticket.is_ticket(artifact.manifest):
        board = ticket.read(artifact.manifest).board
        raise ArtifactError(
            f"{path} is a build ticket, no engine yet: run edgeseg finish {path} on its board ({board})"
        )
    engine = Engine(artifact.manifest, _runtime(artifact.path, artifact.manifest, threads, **options))
    if selftest:
        try:
            run_selftest(engine.run, artifact)
        except BaseException:
            engine.close()
            raise
    return engine


def _runtime(folder: Path, manifest: Manifest, threads: int | None, **options: Any) -> Runtime:
    from edgeseg.runtimes import targets

    if manifest.target not in targets():
        raise ArtifactError(f"{folder} is for target '{manifest.target}'; this edgeseg runs {', '.join(targets())}")
    module = importlib.import_module(f"edgeseg.runtimes.{manifest.target}")
    if unknown := sorted(options.keys() - inspect.signature(module.Runtime).parameters.keys()):
        raise InputError(f"target {manifest.target} has no option {', '.join(unknown)}")
    runtime: Runtime = module.Runtime(folder, manifest, threads, **options)
    return runtime


def _labels(outputs: Outputs) -> NDArray[np.uint8]:
    """The first frame's label map."""
    if "labels" in outputs:
        labels: NDArray[np.uint8] = outputs["labels"][0]
        return labels
    best: NDArray[np.uint8] = outputs["logits"][0].argmax(0).astype(np.uint8)
    return best


POSTPROCESS: dict[str, Callable[[Manifest], Callable[[Outputs], Any]]] = {
    "semantic": lambda manifest: _labels,
    "detection": lambda manifest: Detector(manifest).detect,
}


class Engine:
    """Frames in, answers out. Safe to call from several threads; a context manager.

    ``postprocess`` is what ``segment`` and ``detect`` do with the outputs of ``run``."""

    def __init__(self, manifest: Manifest, runtime: Runtime) -> None:
        self.manifest = manifest
        self._runtime = runtime
        if manifest.model.task not in POSTPROCESS:
            raise ArtifactError(f"this artifact's task is '{manifest.model.task}', unknown to this edgeseg: update it")
        self.postprocess: Callable[[Outputs], Any] = POSTPROCESS[manifest.model.task](manifest)

    @property
    def streams(self) -> int:
        """How many calls at once keep the engine at work: the target's own word, else 1."""
        return int(getattr(self._runtime, "streams", 1))

    def run(self, feeds: Mapping[str, Any]) -> Outputs:
        """The raw call: named tensors in, named tensors out, as the manifest's ``inputs`` and ``outputs`` say. Feeds
        are NumPy arrays; TensorRT's runtime also takes arrays on the GPU.

        Raises:
            InputError: a feed of another name, shape or dtype.
        """
        check_feeds(feeds, self.manifest.inputs, numpy_only=not hasattr(self._runtime, "run_device"))
        return self._runtime.run(feeds)

    def run_device(
        self, feeds: Mapping[str, Any], *, stream: Any = None, out: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """``run`` with outputs that stay on the GPU, where the target has one (docs/tensorrt-runtime.md).

        Raises:
            InputError: a feed, ``stream`` or ``out`` that does not fit, or a target that has none.
            DeviceError: the GPU failed, or its memory is full.
        """
        run = getattr(self._runtime, "run_device", None)
        if run is None:
            raise InputError(f"target {self.manifest.target} has no arrays on a device: use run")
        check_feeds(feeds, self.manifest.inputs, numpy_only=False)
        outputs: dict[str, Any] = run(feeds, stream=stream, out=out)
        return outputs

    def segment(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Class ids uint8 H×W of one ``frame`` uint8 H×W×3, of the artifact's frame size.

        Raises:
            InputError: a frame of another shape or dtype, or an artifact that does not segment.
        """
        if self.manifest.model.task != "semantic":
            raise InputError(f"this artifact's task is '{self.manifest.model.task}', not segmentation")
        labels: NDArray[np.uint8] = self.postprocess(self._frame(frame))
        return labels

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        """The objects on one ``frame`` uint8 H×W×3, of the artifact's frame size: boxes float32 K×4 (x0 y0 x1 y1,
        frame pixels), scores float32 K, classes int32 K, best first, of which the first ``count`` hold.

        Raises:
            InputError: a frame of another shape or dtype, or an artifact that does not detect.
        """
        if self.manifest.model.task != "detection":
            raise InputError(f"this artifact's task is '{self.manifest.model.task}', not detection")
        found: Detections = self.postprocess(self._frame(frame))
        return found

    def _frame(self, frame: NDArray[np.uint8]) -> Outputs:
        height, width = self.manifest.frame
        if frame.shape != (height, width, 3) or frame.dtype != np.uint8:
            raise InputError(f"a frame must be uint8 [{height}, {width}, 3], got {frame.dtype} {list(frame.shape)}")
        return self._runtime.run({self.manifest.inputs[0].name: frame[None]})

    def close(self) -> None:
        """Release the engine; idempotent."""
        self._runtime.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
