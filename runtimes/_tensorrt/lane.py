"""What one caller at a time runs an engine with: an execution context, a stream, buffers."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.errors import ArtifactError, DeviceError, InputError
from edgeseg.runtimes._runtime import Feeds, Outputs, buffers
from edgeseg.runtimes._tensorrt.arrays import LEGACY, View, view
from edgeseg.runtimes._tensorrt.context import Context
from edgeseg.runtimes._tensorrt.device_array import DeviceArray
from edgeseg.runtimes._tensorrt.driver import Driver
from edgeseg.runtimes._tensorrt.plan import Plan
from edgeseg.spec import TensorSpec

ALIGNMENT = 256  # bytes, of every tensor's address (NvInferRuntime.h, IExecutionContext::setTensorAddress)
PER_THREAD = 2  # CU_STREAM_PER_THREAD; this and LEGACY belong to whichever context is current


class Buffer:
    """A tensor's place on the GPU, and its page-locked twin on the host, ``array``, that copies run from and to."""

    def __init__(self, driver: Driver, spec: TensorSpec, stack: ExitStack) -> None:
        dtype = np.dtype(spec.dtype)
        self.bytes = dtype.itemsize * math.prod(spec.shape)
        self.device = driver("cuMemAlloc", self.bytes)
        stack.callback(driver, "cuMemFree", self.device)
        self.host = driver("cuMemAllocHost", self.bytes)
        stack.callback(driver, "cuMemFreeHost", self.host)
        memory = memoryview((ctypes.c_char * self.bytes).from_address(int(self.host)))
        self.array: NDArray[Any] = np.frombuffer(memory, dtype).reshape(spec.shape)


class Lane:
    """One frame at a time, in order. All of its methods want the CUDA context current, ``close`` included.

    Raises:
        DeviceError: no memory, or the GPU failed.
        InputError: a feed that the engine does not take.
        ArtifactError: the engine cannot be captured as a CUDA graph.
    """

    def __init__(self, context: Context, plan: Plan, graph: bool) -> None:
        self._context, self._plan, self._driver = context, plan, context.driver
        self._want_graph, self._graph = graph, None
        self._bound: dict[str, int] = {}
        self._in_flight: object = None  # what work on a caller's stream still uses
        driver, api = self._driver, self._driver.api
        with ExitStack() as stack:
            self._stream = driver("cuStreamCreate", api.CUstream_flags.CU_STREAM_NON_BLOCKING)
            stack.callback(driver, "cuStreamDestroy", self._stream)
            self._event = driver("cuEventCreate", api.CUevent_flags.CU_EVENT_DISABLE_TIMING)
            stack.callback(driver, "cuEventDestroy", self._event)
            self._buffers = {spec.name: Buffer(driver, spec, stack) for spec in (*plan.inputs, *plan.outputs)}
            self._execution = plan.execution()
            stack.callback(self._forget)
            self._stack = stack.pop_all()

    def run(self, feeds: Feeds, out: Feeds | None = None) -> Outputs:
        """Outputs on the host: those of ``out``, and new arrays."""
        outputs = buffers(self._plan.outputs, out)
        self._settle()
        own = int(self._stream)
        with self._drained(own):
            views = self._views(feeds, own)
            self._fill(feeds, views)
            if self._graph is not None and not views:
                self._driver("cuGraphLaunch", self._graph, self._stream)
            else:
                self._once(views, own)
            self._driver("cuStreamSynchronize", self._stream)
            for name, array in outputs.items():
                np.copyto(array, self._buffers[name].array, casting="no")
            if self._want_graph and self._graph is None and not views:  # TensorRT wants one run before the capture
                self._capture()
        return outputs

    def run_device(self, feeds: Feeds, stream: int | None, out: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs on the GPU: new arrays, and those of ``out`` as they were given. With a ``stream`` it returns when
        all is enqueued there, else when all is done."""
        self._settle()
        on = int(self._stream) if stream is None else stream
        if stream not in (None, LEGACY, PER_THREAD):
            theirs = self._driver("cuStreamGetCtx", stream)
            if int(theirs) != int(self._context.handle):
                raise InputError("the stream is of another CUDA context than the engine's: open the artifact in that")
        with self._drained(on):
            views = self._views(feeds, on)
            results: dict[str, Any] = {}
            for spec in self._plan.outputs:
                if spec.name in out:
                    views[spec.name] = self._given(out[spec.name], spec, on)
                    results[spec.name] = out[spec.name]
                else:
                    results[spec.name] = made = DeviceArray(spec, self._context, stream)
                    views[spec.name] = View(made.address, None)
            self._fill(feeds, views)
            self._in_flight = views
            self._infer(views, on)
            if stream is None:
                self._driver("cuStreamSynchronize", on)
                self._in_flight = None
            else:
                self._driver("cuEventRecord", self._event, on)
        return results

    def close(self) -> None:
        """Release all of it, whatever fails on the way. Raises DeviceError: something did."""
        with self._stack:
            self._settle()

    def _forget(self) -> None:
        self._execution = None

    def _settle(self) -> None:
        """Wait for what was enqueued on a caller's stream: this lane's memory, and its inputs, are free then."""
        if self._in_flight is not None:
            self._driver("cuEventSynchronize", self._event)
            self._in_flight = None

    @contextmanager
    def _drained(self, stream: int) -> Iterator[None]:
        """Where the block fails, nothing is left that still reads or writes buffers."""
        try:
            yield
        except BaseException:
            with suppress(DeviceError):
                self._driver("cuStreamSynchronize", stream)
            self._in_flight = None
            raise

    def _views(self, feeds: Feeds, stream: int) -> dict[str, View]:
        """The feeds that lie on the GPU, once ``stream`` waits for what fills them."""
        found = {spec.name: view(feeds[spec.name], spec, stream) for spec in self._plan.inputs}
        views = {name: seen for name, seen in found.items() if seen is not None}
        for name, seen in views.items():
            self._admit(name, seen, stream)
        return views

    def _given(self, array: Any, spec: TensorSpec, stream: int) -> View:
        """An output array of the caller's."""
        seen = view(array, spec, stream, write=True)
        if seen is None:
            raise InputError(f"'{spec.name}' of out must be an array on the GPU, not {type(array).__name__}")
        if seen.address % ALIGNMENT:
            raise InputError(f"'{spec.name}' of out must start at a multiple of {ALIGNMENT} bytes")
        self._admit(spec.name, seen, stream)
        return seen

    def _admit(self, name: str, seen: View, stream: int) -> None:
        """Is it memory that the engine can reach? An address it cannot reach would end the CUDA context."""
        kinds = self._driver.api.CUpointer_attribute
        try:
            ordinal = self._driver("cuPointerGetAttribute", kinds.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, seen.address)
            context = self._driver("cuPointerGetAttribute", kinds.CU_POINTER_ATTRIBUTE_CONTEXT, seen.address)
        except DeviceError as error:
            self._driver.check_alive()
            raise InputError(f"'{name}' is not memory of the GPU: {error}") from None
        device = self._context.device
        if int(ordinal) != device.ordinal:
            raise InputError(f"'{name}' lies on GPU {int(ordinal)}, the engine is on GPU {device.ordinal}")
        if int(context) not in (0, int(self._context.handle)):  # 0: of a memory pool, or managed
            raise InputError(
                f"'{name}' is of another CUDA context than the engine's: open the artifact while that one is current"
            )
        if seen.stream not in (None, stream):
            self._driver("cuEventRecord", self._event, seen.stream)
            self._driver("cuStreamWaitEvent", stream, self._event, 0)

    def _fill(self, feeds: Feeds, views: Mapping[str, View]) -> None:
        for spec in self._plan.inputs:
            if spec.name not in views:
                np.copyto(self._buffers[spec.name].array, feeds[spec.name], casting="no")

    def _once(self, views: Mapping[str, View], stream: int) -> None:
        """Enqueue it all: inputs up, the engine, outputs down."""
        self._infer(views, stream)
        for spec in self._plan.outputs:
            buffer = self._buffers[spec.name]
            self._driver("cuMemcpyDtoHAsync", buffer.host, buffer.device, buffer.bytes, stream)

    def _infer(self, views: Mapping[str, View], stream: int) -> None:
        """Enqueue the engine on what lies at ``views``, and in this lane's own buffers."""
        for spec in self._plan.inputs:
            buffer, seen = self._buffers[spec.name], views.get(spec.name)
            if seen is None:
                self._driver("cuMemcpyHtoDAsync", buffer.device, buffer.host, buffer.bytes, stream)
            elif seen.address % ALIGNMENT:  # part of a larger array: a copy on the GPU is the price
                self._driver("cuMemcpyDtoDAsync", buffer.device, seen.address, buffer.bytes, stream)
        for name, buffer in self._buffers.items():
            seen = views.get(name)
            aligned = seen is not None and not seen.address % ALIGNMENT
            self._bind(name, seen.address if seen is not None and aligned else int(buffer.device))
        if not self._execution.execute_async_v3(stream):
            raise DeviceError(f"TensorRT did not run the engine: {self._plan.complaint()}")

    def _bind(self, name: str, address: int) -> None:
        if self._bound.get(name) != address:
            self._bound.pop(name, None)  # which one it has after a refusal is not known
            if not self._execution.set_tensor_address(name, address):
                raise DeviceError(f"TensorRT does not take an address for '{name}': {self._plan.complaint()}")
            self._bound[name] = address

    def _capture(self) -> None:
        """The graph of one run from this lane's host buffers to its host buffers."""
        driver, api = self._driver, self._driver.api
        # Relaxed: elsewhere in this thread memory may be freed meanwhile, by the garbage collector for one.
        driver("cuStreamBeginCapture", self._stream, api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED)
        failure: Exception | None = None
        try:
            self._once({}, int(self._stream))
        except DeviceError as error:
            failure = error
        try:
            graph = driver("cuStreamEndCapture", self._stream)
            with ExitStack() as stack:
                stack.callback(driver, "cuGraphDestroy", graph)
                instantiate = (f for f in ("cuGraphInstantiateWithFlags", "cuGraphInstantiate") if hasattr(api, f))
                executable = driver(next(instantiate), graph, 0)
                self._stack.callback(driver, "cuGraphExecDestroy", executable)
        except DeviceError as error:
            failure = failure or error
        if failure is not None:
            driver.check_alive()
            raise ArtifactError(f"{failure}: this engine does not become a CUDA graph; open it without") from None
        self._graph = executable
