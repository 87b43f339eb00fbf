"""TensorRT where there is no GPU: a plan is its ONNX file, and ONNX Runtime runs it.

``install`` makes a folder that, first on a process's path, puts this in the place of edgeseg's builder and runtime.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = "10.3.0"
SITE = """
import importlib.util, sys
PLACES = {"edgeseg.export.tensorrt", "edgeseg.runtimes.tensorrt"}

class Finder:
    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_file_location(name, FAKE) if name in PLACES else None

sys.meta_path.insert(0, Finder())
"""


def install(folder: Path) -> Path:
    (folder / "sitecustomize.py").write_text(f"FAKE = {str(Path(__file__))!r}\n{SITE}")
    return folder


@dataclass(frozen=True)
class BuildOptions:
    workspace_bytes: int
    timing_cache: Path | None = None
    calibration_cache: bytes | None = None
    dla_core: int | None = None


def package() -> tuple[str, str]:
    return "tensorrt", os.environ.get("FAKE_TENSORRT", VERSION)


def build_plan(onnx: bytes, precision: str, options: BuildOptions) -> bytes:
    """Waits for so many seconds as FAKE_SECONDS says, then saves the timing cache."""
    assert options.timing_cache is not None
    earlier = options.timing_cache.read_text() if options.timing_cache.exists() else ""
    options.timing_cache.write_text(f"{earlier}{precision} {options.workspace_bytes} {options.dla_core}\n")
    time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
    return onnx


class Runtime:
    def __init__(self, folder: Path, manifest: Any, threads: int | None) -> None:
        import onnxruntime as ort

        if os.environ.get("FAKE_CRASH"):
            os.abort()
        self._session = ort.InferenceSession((folder / "model.plan").read_bytes(), providers=["CPUExecutionProvider"])
        self._names = [spec.name for spec in manifest.outputs]

    def run(self, feeds: Any) -> dict[str, Any]:
        return dict(zip(self._names, self._session.run(self._names, dict(feeds)), strict=True))

    def close(self) -> None:
        self._session = None
