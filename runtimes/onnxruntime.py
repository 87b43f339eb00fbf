"""ONNX Runtime's CPU provider."""

from __future__ import annotations

from pathlib import Path

from edgeseg.cpu import saturates
from edgeseg.errors import ArtifactError, MissingExtra
from edgeseg.manifest import Manifest
from edgeseg.runtimes._runtime import Feeds, Outputs

try:
    import onnxruntime as ort
except ImportError:
    raise MissingExtra("target onnxruntime", "onnxruntime", "onnxruntime") from None

ERRORS_ONLY = 3


class Runtime:
    """``model.onnx`` in a session, which ONNX Runtime itself lets several threads run."""

    def __init__(self, folder: Path, manifest: Manifest, threads: int | None) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        options.intra_op_num_threads = threads or 0
        # On x86 without VNNI its int8 kernels saturate in 16 bits unless told to be exact. Elsewhere that changes no
        # answer, but keeps out a graph whose nodes share an int8 weight ("Attempt to replace the existing tensor").
        if saturates():
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self._session = ort.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no base class but Exception
            raise ArtifactError(f"{folder}: ONNX Runtime does not take model.onnx: {error}") from None
        self._names = [spec.name for spec in manifest.outputs]

    def run(self, feeds: Feeds) -> Outputs:
        return dict(zip(self._names, self._session.run(self._names, dict(feeds)), strict=True))

    def close(self) -> None:
        self._session = None
