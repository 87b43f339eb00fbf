"""A double of cuda-python's driver module that keeps real books: host memory at real addresses, GPU memory at made-up
ones, a context stack per thread, streams whose work waits until something synchronizes, graphs, events.

What the driver would punish with a crash or with wrong values is noted in ``violations``; what is not released is in
``alive()``. Any call can be made to fail.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class CUresult(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NOT_INITIALIZED = 3
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_DEVICE = 101
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_INVALID_HANDLE = 400
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_CONTEXT_IS_DESTROYED = 709
    CUDA_ERROR_LAUNCH_FAILED = 719
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901
    CUDA_ERROR_UNKNOWN = 999


class CUdevice_attribute(IntEnum):
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76


class CUpointer_attribute(IntEnum):
    CU_POINTER_ATTRIBUTE_CONTEXT = 1
    CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL = 9


class CUstream_flags(IntEnum):
    CU_STREAM_NON_BLOCKING = 1


class CUevent_flags(IntEnum):
    CU_EVENT_DISABLE_TIMING = 2


class CUstreamCaptureMode(IntEnum):
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1
    CU_STREAM_CAPTURE_MODE_RELAXED = 2


class Failed(Exception):
    def __init__(self, code: CUresult) -> None:
        super().__init__(code.name)
        self.code = code


class Handle:
    """What cuda-python gives for a context, stream, event, graph or GPU address: equal to nothing, but an int."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __int__(self) -> int:
        return self._value

    __eq__ = None  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


@dataclass
class Memory:
    data: bytearray
    context: int
    ordinal: int


@dataclass
class Stream:
    context: int | None
    pending: list[Callable[[], None]] = field(default_factory=list)
    done: int = 0  # operations completed since it was made
    captured: list[Callable[[], None]] | None = None
    invalidated: bool = False

    def mark(self) -> int:
        return self.done + len(self.pending)


@dataclass
class Event:
    context: int
    stream: Stream | None = None
    mark: int = 0


@dataclass
class Injection:
    """The ``nth`` call (from 1) of ``function`` gives ``code``; ``happens``: its work is done all the same, as where
    a release reports what failed before it."""

    function: str
    nth: int
    code: CUresult
    happens: bool = False


def call(body: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
    """A driver function: (status, results…), counted, locked, and made to fail where a test asks for it."""

    @functools.wraps(body)
    def entry(self: Cuda, *arguments: Any) -> tuple[Any, ...]:
        name = body.__name__
        with self.lock:
            self.calls[name] += 1
            self.trace.append((threading.get_ident(), name))
            injected = self.injection
            if injected is not None and (injected.function, injected.nth) == (name, self.calls[name]):
                if injected.happens:
                    body(self, *arguments)
                if injected.code >= CUresult.CUDA_ERROR_ILLEGAL_ADDRESS and injected.code < 800:
                    self.dead = injected.code
                return (injected.code,)
            if self.dead is not None:
                return (self.dead,)
            try:
                result = body(self, *arguments)
            except Failed as failed:
                return (failed.code,)
            return (CUresult.CUDA_SUCCESS, *(() if result is None else result))

    return entry


def _to_host(address: int, data: bytes) -> None:
    ctypes.memmove(address, data, len(data))


class Cuda:
    """Takes the place of ``cuda.bindings.driver``; ``devices`` are (name, capability)."""

    CUresult, CUdevice_attribute, CUpointer_attribute = CUresult, CUdevice_attribute, CUpointer_attribute
    CUstream_flags, CUevent_flags, CUstreamCaptureMode = CUstream_flags, CUevent_flags, CUstreamCaptureMode
    LEGACY, PER_THREAD = 1, 2

    def __init__(self, devices: tuple[tuple[str, str], ...] = (("Stand-in", "8.6"),), total: int = 1 << 30) -> None:
        self.devices, self.total = devices, total
        self.lock = threading.RLock()
        self.calls: Counter[str] = Counter()
        self.trace: list[tuple[int, str]] = []
        self.injection: Injection | None = None
        self.dead: CUresult | None = None
        self.violations: list[str] = []
        self.initialized = False
        self.contexts: dict[int, int] = {}  # handle → device
        self.primary: dict[int, tuple[int, int]] = {}  # device → (handle, times retained)
        self.memory: dict[int, Memory] = {}
        self.host: dict[int, Any] = {}
        self.streams: dict[int, Stream] = {n: Stream(None) for n in (self.LEGACY, self.PER_THREAD)}
        self.events: dict[int, Event] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.executables: dict[int, list[Callable[[], None]]] = {}
        self._local = threading.local()
        self._handles, self._addresses = 0x1000, 0x7000_0000_0000

    # What tests ask.

    def alive(self) -> dict[str, int]:
        """How many of what are not released."""
        counts = {
            "primary": sum(times for _, times in self.primary.values()), "memory": len(self.memory),
            "host": len(self.host), "streams": len(self.streams) - 2, "events": len(self.events),
            "graphs": len(self.graphs), "executables": len(self.executables),
        }  # fmt: skip
        return {name: count for name, count in counts.items() if count}

    @property
    def stack(self) -> list[int]:
        """The calling thread's contexts, the current one last."""
        if not hasattr(self._local, "stack"):
            self._local.stack = []
        stack: list[int] = self._local.stack
        return stack

    def make_context(self, device: int = 0) -> int:
        """What PyCUDA does: a context of one's own, current from now on."""
        self.initialized = True
        handle = self._handle()
        self.contexts[handle] = device
        self.stack.append(handle)
        return handle

    def retain_primary(self, device: int = 0) -> int:
        """What PyTorch does: the primary context, current from now on."""
        self.initialized = True
        handle, times = self.primary.get(device, (0, 0))
        handle = handle or self._handle()
        self.contexts[handle] = device
        self.primary[device] = handle, times + 1
        self.stack.append(handle)
        return handle

    def allocate(self, data: bytes, context: int, offset: int = 0) -> int:
        """Memory of ``context`` that holds ``data`` from ``offset`` on; gives the address of the data."""
        address = self._address(offset + len(data))
        self.memory[address] = Memory(bytearray(offset) + bytearray(data), context, self.contexts[context])
        return address + offset

    def own_stream(self, context: int) -> int:
        handle = self._handle()
        self.streams[handle] = Stream(context)
        return handle

    def read(self, address: int, size: int) -> bytes:
        memory, at = self.locate(address, size)
        return bytes(memory.data[at : at + size])

    def write(self, address: int, data: bytes) -> None:
        memory, at = self.locate(address, len(data))
        memory.data[at : at + len(data)] = data

    def locate(self, address: int, size: int) -> tuple[Memory, int]:
        for start, memory in self.memory.items():
            if start <= address and address + size <= start + len(memory.data):
                return memory, address - start
        raise Failed(CUresult.CUDA_ERROR_ILLEGAL_ADDRESS)

    def enqueue(self, stream: Any, operation: Callable[[], None]) -> None:
        """Work for later; what a kernel launch does."""
        found = self._stream(stream)
        (found.pending if found.captured is None else found.captured).append(operation)

    def finish(self, stream: Stream, mark: int | None = None) -> None:
        """Do a stream's work up to ``mark``."""
        if stream.captured is not None:
            stream.invalidated = True
            raise Failed(CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
        while stream.pending and (mark is None or stream.done < mark):
            operation = stream.pending.pop(0)
            stream.done += 1
            try:
                operation()
            except Failed as failed:
                self.dead = failed.code
                raise

    def device(self) -> int:
        """The current context's."""
        if not self.initialized:
            raise Failed(CUresult.CUDA_ERROR_NOT_INITIALIZED)
        if not self.stack:
            raise Failed(CUresult.CUDA_ERROR_INVALID_CONTEXT)
        return self.contexts[self.stack[-1]]

    def room(self) -> int:
        return self.total - sum(len(memory.data) for memory in self.memory.values())

    # What the runtime calls.

    @call
    def cuInit(self, flags: int) -> None:
        if not self.devices:
            raise Failed(CUresult.CUDA_ERROR_NO_DEVICE)
        self.initialized = True

    @call
    def cuDeviceGetCount(self) -> tuple[int]:
        return (len(self.devices),)

    @call
    def cuDeviceGet(self, ordinal: int) -> tuple[Handle]:
        return (Handle(ordinal),)

    @call
    def cuDeviceGetName(self, length: int, device: Handle) -> tuple[bytes]:
        return (self.devices[int(device)][0].encode().ljust(length, b"\0"),)

    @call
    def cuDeviceGetAttribute(self, attribute: int, device: Handle) -> tuple[int]:
        part = attribute - CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
        return (int(self.devices[int(device)][1].split(".")[part]),)

    @call
    def cuCtxGetCurrent(self) -> tuple[Handle]:
        return (Handle(self.stack[-1] if self.stack else 0),)

    @call
    def cuCtxGetDevice(self) -> tuple[Handle]:
        return (Handle(self.device()),)

    @call
    def cuCtxPushCurrent(self, context: Any) -> None:
        if int(context) not in self.contexts:
            raise Failed(CUresult.CUDA_ERROR_CONTEXT_IS_DESTROYED)
        self.stack.append(int(context))

    @call
    def cuCtxPopCurrent(self) -> tuple[Handle]:
        self.device()
        return (Handle(self.stack.pop()),)

    @call
    def cuDevicePrimaryCtxGetState(self, device: Any) -> tuple[int, int]:
        return 0, int(int(device) in self.primary)

    @call
    def cuDevicePrimaryCtxRetain(self, device: Any) -> tuple[Handle]:
        handle = self.retain_primary(int(device))
        self.stack.pop()
        return (Handle(handle),)

    @call
    def cuDevicePrimaryCtxRelease(self, device: Any) -> None:
        handle, times = self.primary.pop(int(device))
        if times > 1:
            self.primary[int(device)] = handle, times - 1
            return
        del self.contexts[handle]
        if any(memory.context == handle for memory in self.memory.values()):
            self.violations.append("a primary context went before its memory")

    @call
    def cuMemGetInfo(self) -> tuple[int, int]:
        return self.room(), self.total

    @call
    def cuMemAlloc(self, size: int) -> tuple[Handle]:
        device = self.device()
        if size > self.room():
            raise Failed(CUresult.CUDA_ERROR_OUT_OF_MEMORY)
        address = self._address(size)
        self.memory[address] = Memory(bytearray(size), self.stack[-1], device)
        return (Handle(address),)

    @call
    def cuMemFree(self, address: Any) -> None:
        self.device()
        for stream in self.streams.values():
            if stream.captured is None:
                self.finish(stream)
        if self.memory.pop(int(address), None) is None:
            self.violations.append(f"free of {int(address):#x}, which is not allocated")
            raise Failed(CUresult.CUDA_ERROR_INVALID_VALUE)

    @call
    def cuMemAllocHost(self, size: int) -> tuple[int]:
        self.device()
        memory = ctypes.create_string_buffer(size)
        self.host[ctypes.addressof(memory)] = memory
        return (ctypes.addressof(memory),)

    @call
    def cuMemFreeHost(self, address: int) -> None:
        self.device()
        if self.host.pop(address, None) is None:
            self.violations.append(f"free of host memory {address:#x}, which is not allocated")
            raise Failed(CUresult.CUDA_ERROR_INVALID_VALUE)

    @call
    def cuPointerGetAttribute(self, attribute: int, address: int) -> tuple[Any]:
        try:
            memory, _ = self.locate(int(address), 1)
        except Failed:
            raise Failed(CUresult.CUDA_ERROR_INVALID_VALUE) from None
        wants_context = attribute == CUpointer_attribute.CU_POINTER_ATTRIBUTE_CONTEXT
        return (Handle(memory.context) if wants_context else memory.ordinal,)

    @call
    def cuMemcpyHtoDAsync(self, target: Any, source: int, size: int, stream: Any) -> None:
        if int(source) not in self.host:
            self.violations.append("an asynchronous copy from pageable memory")
        # Read when it is done, not when it is asked for: memory filled again too early shows.
        self.enqueue(stream, lambda: self.write(int(target), ctypes.string_at(int(source), size)))

    @call
    def cuMemcpyDtoHAsync(self, target: int, source: Any, size: int, stream: Any) -> None:
        if int(target) not in self.host:
            self.violations.append("an asynchronous copy to pageable memory")
        self.enqueue(stream, lambda: _to_host(int(target), self.read(int(source), size)))

    @call
    def cuMemcpyDtoDAsync(self, target: Any, source: Any, size: int, stream: Any) -> None:
        self.enqueue(stream, lambda: self.write(int(target), self.read(int(source), size)))

    @call
    def cuStreamCreate(self, flags: int) -> tuple[Handle]:
        self.device()
        if flags != CUstream_flags.CU_STREAM_NON_BLOCKING:
            self.violations.append("a stream that waits for the default stream")
        return (Handle(self.own_stream(self.stack[-1])),)

    @call
    def cuStreamDestroy(self, stream: Any) -> None:
        self._stream(stream)
        del self.streams[int(stream)]

    @call
    def cuStreamSynchronize(self, stream: Any) -> None:
        self.finish(self._stream(stream))

    @call
    def cuStreamGetCtx(self, stream: Any) -> tuple[Handle]:
        return (Handle(self.streams[int(stream)].context or 0),)

    @call
    def cuStreamWaitEvent(self, stream: Any, event: Any, flags: int) -> None:
        found = self.events[int(event)]
        source, mark = found.stream, found.mark
        if source is not None:
            self.enqueue(stream, lambda: self.finish(source, mark))

    @call
    def cuEventCreate(self, flags: int) -> tuple[Handle]:
        self.device()
        handle = self._handle()
        self.events[handle] = Event(self.stack[-1])
        return (Handle(handle),)

    @call
    def cuEventDestroy(self, event: Any) -> None:
        del self.events[int(event)]

    @call
    def cuEventRecord(self, event: Any, stream: Any) -> None:
        found, source = self.events[int(event)], self._stream(stream)
        if found.context != self.stack[-1]:
            raise Failed(CUresult.CUDA_ERROR_INVALID_HANDLE)
        found.stream, found.mark = source, source.mark()

    @call
    def cuEventSynchronize(self, event: Any) -> None:
        found = self.events[int(event)]
        if found.stream is not None:
            self.finish(found.stream, found.mark)

    @call
    def cuStreamBeginCapture(self, stream: Any, mode: int) -> None:
        found = self._stream(stream)
        if mode != CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED:
            self.violations.append("a capture that forbids the garbage collector to free")
        found.captured, found.invalidated = [], False

    @call
    def cuStreamEndCapture(self, stream: Any) -> tuple[Handle]:
        found = self._stream(stream)
        captured, found.captured = found.captured, None
        if found.invalidated or captured is None:
            raise Failed(CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
        handle = self._handle()
        self.graphs[handle] = captured
        return (Handle(handle),)

    @call
    def cuGraphInstantiate(self, graph: Any, flags: int) -> tuple[Handle]:
        handle = self._handle()
        self.executables[handle] = list(self.graphs[int(graph)])
        return (Handle(handle),)

    @call
    def cuGraphLaunch(self, executable: Any, stream: Any) -> None:
        for operation in self.executables[int(executable)]:
            self.enqueue(stream, operation)

    @call
    def cuGraphDestroy(self, graph: Any) -> None:
        del self.graphs[int(graph)]

    @call
    def cuGraphExecDestroy(self, executable: Any) -> None:
        del self.executables[int(executable)]

    def _handle(self) -> int:
        self._handles += 0x10
        return self._handles

    def _address(self, size: int) -> int:
        address = self._addresses
        self._addresses += (size // 512 + 2) * 512
        return address

    def _stream(self, stream: Any) -> Stream:
        self.device()
        found = self.streams.get(int(stream))
        if found is None or found.context not in (None, self.stack[-1]):
            raise Failed(CUresult.CUDA_ERROR_INVALID_HANDLE)
        return found
