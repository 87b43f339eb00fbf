"""OpenVINO IR on OpenVINO's CPU plugin, arithmetic in float32 or int8."""

from __future__ import annotations

import logging
import queue
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.cpu import EXACT_LEVELS, saturates
from edgeseg.errors import ArtifactError, MissingExtra
from edgeseg.manifest import Manifest
from edgeseg.runtimes._runtime import Feeds, Outputs, buffers, check_ends

try:
    import openvino as ov
except ImportError:
    raise MissingExtra("target openvino", "openvino", "openvino") from None

_warned: set[Path] = set()


class Runtime:
    """``model.xml`` compiled for latency, or for ``throughput``, with as many ``streams`` as OpenVINO chooses: so many
    requests, which callers take in turn; the weights are shared. Frames and outputs are read and written where the
    caller's arrays lie."""

    def __init__(self, folder: Path, manifest: Manifest, threads: int | None, *, throughput: bool = False) -> None:
        _warn_of_saturation(folder, manifest)
        hint = "THROUGHPUT" if throughput else "LATENCY"
        # Without the precision hint, CPUs with bf16 or fp16 units would compute in less than the file states.
        config: dict[str, Any] = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        try:
            self._model = _core().compile_model(folder / "model.xml", "CPU", config)
            self.streams = int(self._model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
            self._requests = [self._model.create_infer_request() for _ in range(self.streams)]
            self._ports = {port.get_any_name(): port for port in (*self._model.inputs, *self._model.outputs)}
            found = {n: (tuple(p.get_shape()), p.get_element_type().to_dtype().name) for n, p in self._ports.items()}
        except Exception as error:  # RuntimeError, and pybind11's others where the file is damaged
            line = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise ArtifactError(f"{folder}: OpenVINO does not take model.xml: {line}") from None
        check_ends("OpenVINO", found, manifest)
        self._outputs = manifest.outputs
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()
        for request in self._requests:
            self._idle.put(request)

    def run(self, feeds: Feeds, out: Feeds | None = None) -> Outputs:
        outputs = buffers(self._outputs, out)
        # The request keeps no array alive, only addresses: these dictionaries do until it is done.
        whole = {n: np.require(f, requirements=["C", "W"]) for n, f in feeds.items()}  # it takes no read-only memory
        request = self._idle.get()
        try:
            for name, array in (*whole.items(), *outputs.items()):
                request.set_tensor(self._ports[name], ov.Tensor(array, shared_memory=True))
            # Not infer: called by several threads on busy cores, it was seen to keep some 30 kB of each call (2026.4).
            request.start_async()
            request.wait()
        finally:
            self._idle.put(request)
        return outputs

    def close(self) -> None:
        for _ in self._requests:  # each comes back from the frame that has it
            self._idle.get()
        self._ports, self._requests, self._model = {}, [], None


@cache
def _core() -> Any:
    """One for the process, never destroyed: with its first engine the CPU plugin gives the calling thread a stack for
    signals, and destroyed in another thread it takes the memory and leaves the stack set, so that the next signal that
    Python handles, Ctrl-C for one, ends the process (2026.4)."""
    return ov.Core()


def _warn_of_saturation(folder: Path, manifest: Manifest) -> None:
    """One line, once for each artifact, where its weights are larger than this CPU's int8 kernels are exact with. What
    they then compute is the golden self-test's to judge."""
    if manifest.precision != "int8" or not saturates() or folder in _warned:
        return
    levels = (manifest.calibration or {}).get("weight_levels", 127)
    if isinstance(levels, int) and levels > EXACT_LEVELS:
        _warned.add(folder)
        logging.getLogger(__name__).warning(
            f"{folder.name} has int8 weights up to {levels} and this CPU has no VNNI: OpenVINO's int8 kernels saturate"
            " here and its answers may be wrong: build it again on this machine, or take target onnxruntime or"
            " tflite"
        )
