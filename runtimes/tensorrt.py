"""TensorRT and TensorRT for RTX engines on NVIDIA GPUs, through cuda-python (docs/tensorrt-runtime.md)."""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgeseg.errors import DeviceError, InputError, MissingExtra
from edgeseg.manifest import Manifest
from edgeseg.runtimes._runtime import Feeds, Outputs
from edgeseg.runtimes._tensorrt import context, plan
from edgeseg.runtimes._tensorrt.arrays import stream_handle
from edgeseg.runtimes._tensorrt.driver import Driver
from edgeseg.runtimes._tensorrt.lane import Lane
from edgeseg.runtimes._tensorrt.pool import Pool

try:
    from cuda.bindings import driver as cuda
except ImportError:
    try:
        from cuda import cuda  # before cuda-python 12.8
    except ImportError:
        raise MissingExtra("target tensorrt", "cuda-python", "tensorrt") from None

MOST_LANES = 8


class Runtime:
    """``model.plan`` deserialized once, run by up to ``threads`` threads at a time (None: 8), each with an execution
    context, a stream and page-locked buffers of its own, which are made when first needed and used again.

    ``device`` is the GPU's number. With ``cuda_graph`` a run from host arrays to host arrays is captured after the
    first and replayed.

    Raises:
        MissingExtra: TensorRT is not installed.
        DeviceError: no driver, no GPU, no memory.
        ArtifactError: a plan for another TensorRT or GPU, or one that TensorRT refuses.
        InputError: no GPU of that number, or fewer than one thread.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, threads: int | None, *, device: int = 0, cuda_graph: bool = False
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads must be at least 1, not {threads}")
        try:
            trt = importlib.import_module(plan.package(manifest))
        except (ImportError, OSError) as error:  # OSError: the package is there, NVIDIA's library is not
            raise plan.missing(manifest, error) from None
        driver = Driver(cuda)
        gpu = context.find(driver, device)
        plan.check(manifest, str(trt.__version__), gpu)
        self._outputs = {spec.name for spec in manifest.outputs}
        with ExitStack() as stack:
            home = context.Context(driver, gpu)
            stack.callback(home.drop)
            with home.current():
                opened = plan.Plan(trt, driver, folder, manifest)
            stack.callback(_closed, home, opened)
            self._pool = Pool(home, lambda: Lane(home, opened, cuda_graph), threads or MOST_LANES)
            stack.callback(self._pool.close)
            with self._pool.lane():  # its memory is there before the first frame is
                pass
            self._close = weakref.finalize(self, _all, driver, stack.pop_all())

    def run(self, feeds: Feeds, out: Feeds | None = None) -> Outputs:
        """Outputs on the host, copied into ``out`` where that names them. Feeds on the GPU are read where they lie."""
        with self._pool.lane() as lane:
            return lane.run(feeds, out)

    def run_device(self, feeds: Feeds, *, stream: Any = None, out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Outputs on the GPU, as DeviceArray: PyTorch, CuPy and PyCUDA take them without a copy.

        Outputs that ``out`` names are written into the caller's own GPU arrays instead, and these returned. Without
        a ``stream`` (of PyTorch, CuPy, PyCUDA, cuda-python, or its handle) the outputs are there on return. With one,
        the work is enqueued on it and the call returns; feeds, ``out`` and the stream must then stay as they are
        until the stream has come so far.

        Raises:
            InputError: an array or a stream that does not fit.
            DeviceError: the GPU failed, or its memory is full.
        """
        given = {} if out is None else out
        if unknown := sorted(set(given) - self._outputs):
            raise InputError(f"the engine gives {sorted(self._outputs)}, not {unknown}")
        handle = None if stream is None else stream_handle(stream)
        with self._pool.lane() as lane:
            return lane.run_device(feeds, handle, given)

    def close(self) -> None:
        """Wait for running frames and release all; idempotent. Arrays that ``run_device`` gave live on.

        Raises:
            DeviceError: the driver failed at a release; the rest is released all the same.
        """
        self._close()


def _closed(home: context.Context, opened: plan.Plan) -> None:
    with home.current():
        opened.close()


def _all(driver: Driver, stack: ExitStack) -> None:
    try:
        stack.close()
    except DeviceError:
        if driver.lost is None:  # a lost context took everything with it, and was reported
            raise
