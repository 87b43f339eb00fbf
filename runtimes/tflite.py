"""TFLite on the CPU: LiteRT, or its predecessor tflite-runtime, with XNNPACK's kernels."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.errors import ArtifactError, MissingExtra
from edgeseg.manifest import Manifest
from edgeseg.runtimes._runtime import Feeds, Outputs, check_ends

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    try:
        from tflite_runtime.interpreter import Interpreter
    except ImportError:
        raise MissingExtra("target tflite", "ai-edge-litert", "tflite") from None


class Runtime:
    """``model.tflite`` in one interpreter, on all cores where ``threads`` is None, for one caller at a time:
    interpreters are not thread-safe, and a second one would share the cores and double the weights."""

    def __init__(self, folder: Path, manifest: Manifest, threads: int | None) -> None:
        self._lock = threading.Lock()
        try:
            self._interpreter: Any = Interpreter(
                str(folder / "model.tflite"), num_threads=threads or len(os.sched_getaffinity(0))
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ArtifactError(f"{folder}: TFLite does not take model.tflite: {error}") from None
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        found = {d["name"]: (tuple(map(int, d["shape"])), np.dtype(d["dtype"]).name) for d in (*inputs, *outputs)}
        check_ends("TFLite", found, manifest)
        self._inputs = {d["name"]: d["index"] for d in inputs}
        self._outputs = {d["name"]: d["index"] for d in outputs}

    def run(self, feeds: Feeds, out: Feeds | None = None) -> Outputs:
        given = {} if out is None else out
        with self._lock:
            for name, feed in feeds.items():  # the interpreter's memory is its own: one copy in, one out
                np.copyto(self._interpreter.tensor(self._inputs[name])(), feed, casting="no")
            self._interpreter.invoke()
            return {name: self._output(index, given.get(name)) for name, index in self._outputs.items()}

    def _output(self, index: int, out: Any) -> Any:
        if out is None:
            return self._interpreter.get_tensor(index)
        np.copyto(out, self._interpreter.tensor(index)(), casting="no")
        return out

    def close(self) -> None:
        with self._lock:
            self._interpreter = None
