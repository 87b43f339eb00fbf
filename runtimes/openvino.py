"""OpenVINO IR on OpenVINO's CPU plugin, arithmetic in float32 or int8."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.errors import ArtifactError, MissingExtra
from edgeseg.manifest import Manifest
from edgeseg.runtimes._runtime import Feeds, Outputs, buffers, check_ends

try:
    import openvino as ov
except ImportError:
    raise MissingExtra("target openvino", "openvino", "openvino") from None


class Runtime:
    """``model.xml`` compiled for latency: one stream of inferences, so one request, for one caller at a time. Frames
    and outputs are read and written where the caller's arrays lie."""

    def __init__(self, folder: Path, manifest: Manifest, threads: int | None) -> None:
        # Without the precision hint, CPUs with bf16 or fp16 units would compute in less than the file states.
        config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        try:
            self._model = ov.Core().compile_model(folder / "model.xml", "CPU", config)
            self._request = self._model.create_infer_request()
            self._ports = {port.get_any_name(): port for port in (*self._model.inputs, *self._model.outputs)}
            found = {n: (tuple(p.get_shape()), p.get_element_type().to_dtype().name) for n, p in self._ports.items()}
        except Exception as error:  # RuntimeError, and pybind11's others where the file is damaged
            line = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise ArtifactError(f"{folder}: OpenVINO does not take model.xml: {line}") from None
        check_ends("OpenVINO", found, manifest)
        self._outputs = manifest.outputs
        self._lock = threading.Lock()

    def run(self, feeds: Feeds, out: Feeds | None = None) -> Outputs:
        outputs = buffers(self._outputs, out)
        # The request keeps no array alive, only addresses: these dictionaries do until it is done.
        whole = {n: np.require(f, requirements=["C", "W"]) for n, f in feeds.items()}  # it takes no read-only memory
        with self._lock:
            for name, array in (*whole.items(), *outputs.items()):
                self._request.set_tensor(self._ports[name], ov.Tensor(array, shared_memory=True))
            # Not infer: called by several threads on busy cores, it was seen to keep some 30 kB of each call (2026.4).
            self._request.start_async()
            self._request.wait()
        return outputs

    def close(self) -> None:
        with self._lock:
            self._ports, self._request, self._model = {}, None, None
