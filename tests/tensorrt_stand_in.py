"""A double of TensorRT's runtime objects on ``cuda_stand_in``: one engine, uint8 frames to labels and logits.

Labels are the brightest channel, the first of equal ones; logits the channels as numbers: anything that mixes up
frames, buffers or their order shows in them.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.cuda_stand_in import Cuda, CUresult, Failed, Memory

SHAPE = (4, 6)
TENSORS = {
    "frame": ("INPUT", "UINT8", (1, *SHAPE, 3)),
    "labels": ("OUTPUT", "UINT8", (1, *SHAPE)),
    "logits": ("OUTPUT", "FLOAT", (1, 3, *SHAPE)),
}
ACTIVATIONS = 4096


def expected(frame: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    return {
        "labels": frame.argmax(-1).astype(np.uint8),
        "logits": np.ascontiguousarray(frame.transpose(0, 3, 1, 2)).astype(np.float32),
    }


def write_plan(folder: Path, **tensors: tuple[str, str, tuple[int, ...]]) -> None:
    """A plan that the stand-in takes; ``tensors`` beside or instead of its own."""
    (folder / "model.plan").write_text(json.dumps({**TENSORS, **tensors}))


class Member:
    """Of one of TensorRT's enumerations: a name, and a number."""

    def __init__(self, name: str, value: int = 0) -> None:
        self.name, self._value = name, value

    def __int__(self) -> int:
        return self._value


class ILogger:
    def __init__(self) -> None:
        self.ready = True


class TensorRT(ModuleType):
    """Takes the place of ``tensorrt``. ``refuses`` makes calls fail as TensorRT does: no exception, a line logged."""

    EngineInvalidityDiagnostics = SimpleNamespace(
        __members__={"VERSION_MISMATCH": Member("", 1), "UNSUPPORTED_CC": Member("", 2), "CUDA_ERROR": Member("", 64)}
    )

    def __init__(self, cuda: Cuda, version: str = "10.3.0.26") -> None:
        super().__init__("tensorrt")
        self.cuda, self.__version__ = cuda, version
        self.ILogger = ILogger
        self.refuses: set[str] = set()
        self.validity: tuple[str, int] | None = None  # None: this version cannot tell
        self.live: set[str] = set()
        self.executions = 0
        self.most_executions = 0
        self.barrier: threading.Barrier | None = None  # callers meet here, to be in flight together
        self.host_code_allowed, self.dla_core = False, -1

    def Runtime(self, logger: Any) -> Runtime:
        assert logger.ready
        if not self.cuda.initialized or not self.cuda.stack:
            self.cuda.violations.append("trt.Runtime without a driver or a context: a crash")
        if self.validity is not None:
            return ValidatingRuntime(self, logger)
        return Runtime(self, logger)


class Runtime:
    engine_host_code_allowed = False

    def __init__(self, trt: TensorRT, logger: Any) -> None:
        self.trt, self.logger = trt, logger
        trt.host_code_allowed = False

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "engine_host_code_allowed":
            self.trt.host_code_allowed = value
        if name == "DLA_core":
            self.trt.dla_core = value

    def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
        self.logger.log(Member("WARNING", 2), "a warning is nothing to tell")
        if "deserialize_cuda_engine" in self.trt.refuses:
            self.logger.log(Member("ERROR", 1), "expecting library version 10.3.0.26\n got 8.6.1.6")
            return None
        return Engine(self.trt, self.logger, json.loads(content))


class ValidatingRuntime(Runtime):
    def get_engine_validity(self, content: bytes) -> tuple[Member, int]:
        assert self.trt.validity is not None
        return Member(self.trt.validity[0]), self.trt.validity[1]


class Engine:
    device_memory_size_v2 = ACTIVATIONS

    def __init__(self, trt: TensorRT, logger: Any, tensors: dict[str, Any]) -> None:
        self.trt, self.logger, self.tensors = trt, logger, tensors
        trt.live.add("engine")

    def __del__(self) -> None:
        self.trt.live.discard("engine")
        if not self.trt.cuda.stack and self.trt.cuda.dead is None:
            self.trt.cuda.violations.append("an engine went with no context current")

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> Member:
        return Member(self.tensors[name][0])

    def get_tensor_dtype(self, name: str) -> Member:
        return Member(self.tensors[name][1])

    def get_tensor_shape(self, name: str) -> list[int]:
        return list(self.tensors[name][2])

    def create_execution_context(self) -> Execution | None:
        if self.trt.cuda.room() < ACTIVATIONS or "create_execution_context" in self.trt.refuses:
            self.logger.log(Member("INTERNAL_ERROR", 0), "OutOfMemory")
            return None
        return Execution(self)


class Execution:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.trt, self.cuda = engine, engine.trt, engine.trt.cuda
        self.addresses: dict[str, int] = {}
        self.unfinished: Counter[int] = Counter()  # stream → runs not done there
        with self.cuda.lock:
            self.cuda.device()
            self.scratch = self.cuda._address(ACTIVATIONS)
            self.cuda.memory[self.scratch] = Memory(bytearray(ACTIVATIONS), self.cuda.stack[-1], self.cuda.device())
            self.trt.executions += 1
            self.trt.most_executions = max(self.trt.executions, self.trt.most_executions)

    def __del__(self) -> None:
        self.trt.executions -= 1
        self.cuda.memory.pop(self.scratch, None)
        if not self.cuda.stack and self.cuda.dead is None:
            self.cuda.violations.append("an execution context went with no context current")

    def _refuses(self, call: str) -> bool:
        if call in self.trt.refuses:
            self.engine.logger.log(Member("ERROR", 1), f"{call} is refused")
        return call in self.trt.refuses

    def set_tensor_address(self, name: str, address: int) -> bool:
        if address % 256:
            self.cuda.violations.append(f"{name} at {address:#x}, which is not aligned")
        self.addresses[name] = address
        return not self._refuses("set_tensor_address")

    def execute_async_v3(self, stream: int) -> bool:
        assert type(stream) is int
        if self.trt.barrier is not None:
            self.trt.barrier.wait(10)
        found = self.cuda.streams[stream]
        if self._refuses("execute_async_v3") or (found.captured is not None and self._refuses("capture")):
            return False
        at, trt, unfinished = dict(self.addresses), self.trt, self.unfinished  # a graph does not keep what made it
        with self.cuda.lock:
            if set(unfinished) - {stream}:
                self.cuda.violations.append("one execution context on two streams at a time")
            if found.captured is None:
                unfinished[stream] += 1
            self.cuda.enqueue(stream, lambda: _compute(trt, at, unfinished, stream))
        return True


def _compute(trt: TensorRT, at: dict[str, int], unfinished: Counter[int], stream: int) -> None:
    unfinished[stream] -= 1
    if unfinished[stream] <= 0:
        del unfinished[stream]
    if "launch" in trt.refuses:
        raise Failed(CUresult.CUDA_ERROR_LAUNCH_FAILED)
    frame = np.frombuffer(trt.cuda.read(at["frame"], SHAPE[0] * SHAPE[1] * 3), np.uint8)
    for name, values in expected(frame.reshape(1, *SHAPE, 3)).items():
        trt.cuda.write(at[name], values.tobytes())
