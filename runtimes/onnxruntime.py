"""ONNX Runtime's CPU provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.cpu import saturates
from edgeseg.errors import ArtifactError, MissingExtra
from edgeseg.manifest import Manifest
from edgeseg.runtimes._runtime import Feeds, Outputs, buffers, check_ends

try:
    import onnxruntime as ort
except ImportError:
    raise MissingExtra("target onnxruntime", "onnxruntime", "onnxruntime") from None

ERRORS_ONLY = 3
DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}


class Runtime:
    """``model.onnx`` in a session, which ONNX Runtime itself lets several threads run. Frames and outputs are read and
    written where the caller's arrays lie."""

    def __init__(self, folder: Path, manifest: Manifest, threads: int | None) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        options.intra_op_num_threads = threads or 0
        # On x86 without VNNI its int8 kernels saturate in 16 bits unless told to be exact. Elsewhere that changes no
        # answer, but keeps out a graph whose nodes share an int8 weight ("Attempt to replace the existing tensor").
        if saturates():
            options.add_session_config_entry("session.x64quantprecision", "1")
        # The artifact's integer operators are written out; pairs that are left stand around what is faster in float.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            self._session = ort.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no base class but Exception
            line = " ".join(str(error).split())
            raise ArtifactError(f"{folder}: ONNX Runtime does not take model.onnx: {line}") from None
        ends = (*self._session.get_inputs(), *self._session.get_outputs())
        check_ends("ONNX Runtime", {end.name: (tuple(end.shape), _dtype(end.type)) for end in ends}, manifest)
        self._outputs = manifest.outputs

    def run(self, feeds: Feeds, out: Feeds | None = None) -> Outputs:
        outputs = buffers(self._outputs, out)
        binding = self._session.io_binding()
        for name, feed in feeds.items():
            binding.bind_ortvalue_input(name, _value(np.ascontiguousarray(feed)))
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, _value(array))
        self._session.run_with_iobinding(binding)
        return outputs

    def close(self) -> None:
        self._session = None


def _value(array: NDArray[Any]) -> Any:
    """ONNX Runtime's view of ``array``: no copy, and it keeps the array alive."""
    return ort.OrtValue.ortvalue_from_numpy(array)


def _dtype(kind: str) -> str:
    """``tensor(uint8)`` as NumPy spells it."""
    return DTYPES.get(kind, kind.removeprefix("tensor(").removesuffix(")"))
