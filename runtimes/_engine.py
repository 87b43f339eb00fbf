"""An opened artifact: verified, self-tested, and ready for frames."""

from __future__ import annotations

import importlib
import inspect
import threading
import time
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from edgeseg import ticket
from edgeseg.artifact import Artifact, load
from edgeseg.boxes import Detections
from edgeseg.errors import ArtifactError, InputError
from edgeseg.frames import check
from edgeseg.manifest import Manifest
from edgeseg.runtimes._detect import Detector
from edgeseg.runtimes._fit import Fit
from edgeseg.runtimes._health import Health, Timings
from edgeseg.runtimes._life import Life
from edgeseg.runtimes._runtime import Outputs, Runtime, check_buffer, check_feeds, check_out
from edgeseg.runtimes._selftest import selftest as run_selftest
from edgeseg.runtimes._stream import Stream
from edgeseg.selfcheck import selfcheck

if TYPE_CHECKING:
    from edgeseg.runtimes._async_stream import AsyncStream


def open_artifact(
    path: str | Path,
    *,
    selftest: bool = True,
    threads: int | None = None,
    watchdog: float | None = None,
    recover: bool = False,
    trial: bool = False,
    **options: Any,
) -> Engine:
    """Open the artifact folder at ``path`` on this machine.

    Verifies the files' hashes, loads the target's runtime with ``threads`` threads (None: the target's own
    choice) and the target's own ``options`` (TensorRT: ``device``, ``cuda_graph``; OpenVINO: ``throughput``) and,
    unless ``selftest`` is False, runs the golden frame and compares its outputs.

    With ``trial`` all this happens in a process of its own first, so that a file that crashes the vendor's parser ends
    that process and not this one. ``watchdog`` is how many seconds a call into the vendor's library may take. With
    ``recover`` an engine that failed, or was overdue, is opened again from ``path``, tested, and given the frame once
    more (docs/runtime.md).

    Raises:
        ArtifactError: not an artifact, a build ticket, altered, of a newer schema, or of a target unknown here.
        InputError: an option that the target does not have, or a watchdog that is no positive time.
        MissingExtra: the target's package is not installed.
        DeviceError: the target's device is missing, too full, or failed.
        CheckFailed: the golden outputs were not met, or the trial's process died.
    """
    if watchdog is not None and not 0 < watchdog <= threading.TIMEOUT_MAX:
        raise InputError(f"watchdog must be a positive number of seconds, not {watchdog}")
    artifact = load(path)
    if ticket.is_ticket(artifact.manifest):
        board = ticket.read(artifact.manifest).board
        raise ArtifactError(
            f"{path} is a build ticket, no engine yet: run edgeseg finish {path} on its board ({board})"
        )
    if trial:
        selfcheck(artifact.path, artifact.path.name)
    engine = Engine(artifact.manifest, _runtime(artifact.path, artifact.manifest, threads, **options), watchdog)
    try:
        if selftest:
            run_selftest(engine.run, artifact)
        if recover:
            engine.recover(lambda: _again(artifact, threads, selftest, options))
    except BaseException:
        engine.close()
        raise
    return engine


def _again(artifact: Artifact, threads: int | None, selftest: bool, options: Mapping[str, Any]) -> Runtime:
    """A new runtime of the same artifact, tested."""
    if load(artifact.path).manifest != artifact.manifest:
        raise ArtifactError(f"{artifact.path} is another artifact than the one that was opened: open it anew")
    runtime = _runtime(artifact.path, artifact.manifest, threads, **options)
    try:
        if selftest:
            run_selftest(runtime.run, artifact)
    except BaseException:
        runtime.close()
        raise
    return runtime


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

    ``postprocess`` is what ``segment`` and ``detect`` do with the outputs of ``run``. ``timings`` are those of the last
    frame that ``segment`` or ``detect`` finished, None before; ``on_frame``, where set, is called with each frame's,
    in the thread that asked. ``dropped`` frames of all streams gave way to newer ones.
    ``streams`` calls at once keep the engine at work: the target's own word, else 1."""

    def __init__(self, manifest: Manifest, runtime: Runtime, watchdog: float | None = None) -> None:
        self.manifest = manifest
        if manifest.model.task not in POSTPROCESS:
            raise ArtifactError(f"this artifact's task is '{manifest.model.task}', unknown to this edgeseg: update it")
        self.postprocess: Callable[[Outputs], Any] = POSTPROCESS[manifest.model.task](manifest)
        self.timings: Timings | None = None
        self.on_frame: Callable[[Timings], object] | None = None
        self.dropped, self._counting = 0, threading.Lock()
        self._life = Life(runtime, manifest.target, watchdog)
        self.streams = int(getattr(runtime, "streams", 1))
        self._on_device = hasattr(runtime, "run_device")
        self._fit = Fit(manifest)
        self._labels = next((spec for spec in manifest.outputs if spec.name == "labels"), None)

    def run(self, feeds: Mapping[str, Any], *, out: Mapping[str, NDArray[Any]] | None = None) -> Outputs:
        """The raw call: named tensors in, named tensors out, as the manifest's ``inputs`` and ``outputs`` say. Feeds
        are NumPy arrays; TensorRT's runtime also takes arrays on the GPU. Outputs that ``out`` names are written into
        its arrays, which are C-contiguous, and these returned.

        Raises:
            InputError: a feed, or an array of ``out``, of another name, shape or dtype.
            DeviceError: the engine failed, or did not come back in time.
        """
        check_feeds(feeds, self.manifest.inputs, numpy_only=not self._on_device)
        if out is not None:
            check_out(out, self.manifest.outputs)
        return self._life.run(feeds, out)

    def run_device(
        self, feeds: Mapping[str, Any], *, stream: Any = None, out: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """``run`` with outputs that stay on the GPU, where the target has one (docs/tensorrt-runtime.md).

        Raises:
            InputError: a feed, ``stream`` or ``out`` that does not fit, or a target that has none.
            DeviceError: the GPU failed, or its memory is full.
        """
        if not self._on_device:
            raise InputError(f"target {self.manifest.target} has no arrays on a device: use run")
        check_feeds(feeds, self.manifest.inputs, numpy_only=False)
        given: dict[str, Any] = {"stream": stream, "out": out}
        outputs: dict[str, Any] = self._life.call(lambda runtime: runtime.run_device(feeds, **given))  # type: ignore[attr-defined]
        return outputs

    def segment(
        self,
        frame: NDArray[np.uint8],
        *,
        encoding: str = "rgb8",
        resize: bool = False,
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """Class ids uint8 H×W of one ``frame`` of ``encoding``: "rgb8" (uint8 H×W×3), "bgr8", "rgba8", "bgra8",
        "mono8", "nv12" or "yuyv" (edgeseg.frames). It has the artifact's frame size, or with ``resize`` any: it is
        then stretched to that, and its labels back. They are written into ``out``, uint8 H×W, where that is given.

        Raises:
            InputError: a frame or ``out`` of another shape or dtype, or an artifact that does not segment.
            DeviceError: the engine failed, or did not come back in time.
        """
        return self._answer("semantic", frame, encoding, resize, out)[0]  # type: ignore[no-any-return]

    def detect(self, frame: NDArray[np.uint8], *, encoding: str = "rgb8", resize: bool = False) -> Detections:
        """The objects on one ``frame`` as ``segment`` takes it, with ``resize`` letterboxed: boxes float32 K×4 (x0 y0
        x1 y1, frame pixels), scores float32 K, classes int32 K, best first, of which the first ``count`` hold.

        Raises:
            InputError: a frame of another shape or dtype, or an artifact that does not detect.
            DeviceError: the engine failed, or did not come back in time.
        """
        return self._answer("detection", frame, encoding, resize, None)[0]  # type: ignore[no-any-return]

    def segment_batch(
        self,
        frames: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
        *,
        encoding: str = "rgb8",
        resize: bool = False,
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """Class ids uint8 N×H×W of N ``frames`` of one size, an array or a sequence; otherwise as ``segment``. They run
        one after the other: engines are built for one frame at a time."""
        sizes = {check(frame, encoding, None if resize else self._fit.size) for frame in frames}
        if len(sizes) != 1:
            raise InputError(f"a batch needs frames of one size, got {sorted(sizes) or 'none'}")
        shape = (len(frames), *sizes.pop())
        if out is None:
            out = np.empty(shape, np.uint8)
        check_buffer(out, "uint8", shape, "out")
        for frame, labels in zip(frames, out, strict=True):
            self.segment(frame, encoding=encoding, resize=resize, out=labels)
        return out

    def detect_batch(
        self, frames: Iterable[NDArray[np.uint8]], *, encoding: str = "rgb8", resize: bool = False
    ) -> list[Detections]:
        """``detect`` of each of ``frames``, which may differ in size."""
        return [self.detect(frame, encoding=encoding, resize=resize) for frame in frames]

    @overload
    def stream(
        self, frames: Iterable[Any], *, keep: str = ..., depth: int = ..., encoding: str = ..., resize: bool = ...
    ) -> Stream: ...
    @overload
    def stream(
        self, frames: AsyncIterable[Any], *, keep: str = ..., depth: int = ..., encoding: str = ..., resize: bool = ...
    ) -> AsyncStream: ...
    def stream(
        self, frames: Any, *, keep: str = "all", depth: int = 1, encoding: str = "rgb8", resize: bool = False
    ) -> Stream | AsyncStream:
        """The Results of ``frames``, in order, each with its time stamp. ``frames`` is an iterator or an async iterator
        of frames as ``segment`` takes them, or of pairs (stamp, frame); it is read ahead of the engine, in a thread or
        by the event loop, into a queue of ``depth`` frames. Where that is full, ``keep="all"`` lets the source wait and
        ``keep="latest"`` drops the oldest. The engine runs when a result is asked for.

        Raises:
            InputError: another ``keep``, or a depth below 1; for a frame: as ``segment`` and ``detect``.
        """
        task = self.manifest.model.task

        def ask(frame: Any) -> tuple[Any, Timings]:
            return self._answer(task, frame, encoding, resize, None)

        if hasattr(frames, "__aiter__"):
            from edgeseg.runtimes._async_stream import AsyncStream  # asyncio is a third of the import's time

            return AsyncStream(frames, ask, keep, depth, self._drop)
        return Stream(frames, ask, keep, depth, self._drop)

    def _drop(self, count: int) -> None:
        if count:
            with self._counting:
                self.dropped += count

    def health(self) -> Health:
        """How the engine fares; asks nothing of the device and never waits for it."""
        return self._life.health(self.dropped)

    def recover(self, reopen: Callable[[], Runtime]) -> None:
        """From now on, where the engine fails, ``reopen`` opens it again; ``open_artifact`` sets it by ``recover``."""
        self._life.reopen = reopen

    def _answer(
        self, task: str, frame: Any, encoding: str, resize: bool, out: NDArray[np.uint8] | None
    ) -> tuple[Any, Timings]:
        """What ``task`` finds on the frame, and how long that took."""
        began = time.perf_counter()
        if self.manifest.model.task != task:
            verb = {"semantic": "segmentation", "detection": "detection"}[task]
            raise InputError(f"this artifact's task is '{self.manifest.model.task}', not {verb}")
        if self.manifest.inputs[0].shape[0] != 1:
            raise InputError(f"this engine takes {self.manifest.inputs[0].shape[0]} frames at a time: use run")
        own, size = self._fit.frame(frame, encoding, resize)
        into: dict[str, NDArray[Any]] | None = None
        if out is not None:
            check_buffer(out, "uint8", size, "out")
            if self._labels is not None and size == self._fit.size:
                into = {"labels": out[None]}
        ready = time.perf_counter()
        outputs = self._life.run({self.manifest.inputs[0].name: own[None]}, into)
        inferred = time.perf_counter()
        found = self.postprocess(outputs)
        found = self._fit.labels(found, size, out) if task == "semantic" else self._fit.boxes(found, size)
        timings = Timings(ready - began, inferred - ready, time.perf_counter() - inferred)
        self.timings = timings
        if self.on_frame is not None:
            self.on_frame(timings)
        return found, timings

    def close(self) -> None:
        """Wait for frames that run, and release the engine; idempotent.

        Raises:
            DeviceError: they do not come back; what they hold is released when they do.
        """
        self._life.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
