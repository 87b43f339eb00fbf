"""OpenVINO IR on OpenVINO's CPU plugin: one request per thread, arithmetic in float32 or int8."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from edgeseg.errors import ArtifactError, MissingExtra
from edgeseg.manifest import Manifest
from edgeseg.runtimes._runtime import Feeds, Outputs

try:
    import openvino as ov
except ImportError:
    raise MissingExtra("target openvino", "openvino", "openvino") from None


class Runtime:
    """``model.xml`` compiled for latency, or for ``throughput``, with as many ``streams`` as OpenVINO chooses. Threads
    get a request each; the weights are shared."""

    def __init__(self, folder: Path, manifest: Manifest, threads: int | None, *, throughput: bool = False) -> None:
        hint = "THROUGHPUT" if throughput else "LATENCY"
        # Without the precision hint, CPUs with bf16 or fp16 units would compute in less than the file states.
        config: dict[str, Any] = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        try:
            self._model = ov.Core().compile_model(folder / "model.xml", "CPU", config)
        except RuntimeError as error:
            line = str(error).strip().splitlines()[-1]
            raise ArtifactError(f"{folder}: OpenVINO does not take model.xml: {line}") from None
        self.streams = int(self._model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._names = [spec.name for spec in manifest.outputs]
        self._local = threading.local()

    def run(self, feeds: Feeds) -> Outputs:
        request = getattr(self._local, "request", None)
        if request is None:
            request = self._local.request = self._model.create_infer_request()
        results = request.infer(dict(feeds), share_inputs=True)
        return {name: results[name] for name in self._names}

    def close(self) -> None:
        self._local = threading.local()
        self._model = None
