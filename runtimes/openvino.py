"""OpenVINO IR on OpenVINO's CPU plugin: a request for each caller at a time, arithmetic in float32 or int8."""

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
    """``model.xml`` compiled for latency. Callers get a request each, used again; the weights are shared. Frames and
    outputs are read and written where the caller's arrays lie."""

    def __init__(self, folder: Path, manifest: Manifest, threads: int | None) -> None:
        # Without the precision hint, CPUs with bf16 or fp16 units would compute in less than the file states.
        config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        try:
            self._model = ov.Core().compile_model(folder / "model.xml", "CPU", config)
            self._request = self._model.create_infer_request()
            ports = (*self._model.inputs, *self._model.outputs)
            self._memory = {port.get_any_name(): self._request.get_tensor(port).data for port in ports}
        except Exception as error:  # RuntimeError, and pybind11's others where the file is damaged
            line = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise ArtifactError(f"{folder}: OpenVINO does not take model.xml: {line}") from None
        check_ends("OpenVINO", {name: (m.shape, m.dtype.name) for name, m in self._memory.items()}, manifest)
        self._outputs = manifest.outputs
        self._lock = threading.Lock()

    def run(self, feeds: Feeds, out: Feeds | None = None) -> Outputs:
        outputs = buffers(self._outputs, out)
        with self._lock:
            for name, feed in feeds.items():
                np.copyto(self._memory[name], feed, casting="no")
            self._request.infer()
            for name, array in outputs.items():
                np.copyto(array, self._memory[name], casting="no")
        return outputs

    def close(self) -> None:
        with self._lock:
            self._memory, self._request, self._model = {}, None, None
