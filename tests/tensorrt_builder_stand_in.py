"""TensorRT's bindings as export/tensorrt.py sees them, in the forms of 8.5, 10 and 11: each call is written down.

The names are those that the real bindings were asked for (tests/test_tensorrt_api.py).
"""

from __future__ import annotations

from enum import IntEnum
from types import SimpleNamespace
from typing import Any


def _enum(name: str, members: Any, start: int = 1) -> Any:
    return IntEnum(name, members, start=start)


class Layer:
    """Of one float output and, like a pooling's, one int32."""

    def __init__(self, trt: Bindings, name: str, dtype: Any) -> None:
        self.name, self.num_outputs, self.types = name, 2, {}  # type: ignore[var-annotated]
        self._outputs = [SimpleNamespace(dtype=dtype), SimpleNamespace(dtype=trt.DataType.INT32)]

    def get_output(self, i: int) -> Any:
        return self._outputs[i]

    def set_output_type(self, i: int, dtype: Any) -> None:
        self.types[i] = dtype


class Bindings:
    """``layers``: their names. ``errors``: what the parser refuses with; ``plan``: what the builder gives."""

    def __init__(self, version: str, layers: tuple[str, ...] = ("one",), half: bool = False) -> None:
        self.__name__, self.__version__ = "tensorrt", version
        major, old = int(version.split(".")[0]), version.startswith("8.5")
        flags = ["TF32", "GPU_FALLBACK"]
        flags += ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"] if major < 11 else []
        flags += [] if old else ["VERSION_COMPATIBLE"]
        self.BuilderFlag = _enum("BuilderFlag", flags)
        network = ["EXPLICIT_BATCH"] if major < 11 else ["STRONGLY_TYPED"]
        self.NetworkDefinitionCreationFlag = _enum("NetworkFlag", network, start=0)
        self.DataType = _enum("DataType", "FLOAT HALF INT32")
        self.DeviceType = _enum("DeviceType", "GPU DLA")
        self.MemoryPoolType = _enum("MemoryPoolType", "WORKSPACE")
        self.ILogger = type("ILogger", (), {"ERROR": 1, "INTERNAL_ERROR": 0, "WARNING": 2})
        if major < 11:
            self.IInt8EntropyCalibrator2 = type("IInt8EntropyCalibrator2", (), {})
        if not old:
            self.HardwareCompatibilityLevel = _enum("HardwareCompatibilityLevel", "NONE AMPERE_PLUS")
        self.new, self.errors, self.plan, self.finds_gpu = not old, [], b"plan", True  # type: ignore[var-annotated]
        dtype = self.DataType.HALF if half else self.DataType.FLOAT
        self.layers = [Layer(self, name, dtype) for name in layers]
        self.config: Any = None
        self.network_flags: int | None = None

    def Builder(self, log: Any) -> Any:
        if not self.finds_gpu:
            log.log(1, "CUDA initialization failure\n with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self.log = log
        return SimpleNamespace(
            create_network=self._network, create_builder_config=self._config, num_DLA_cores=2,
            build_serialized_network=lambda network, config: self.plan,
        )  # fmt: skip

    def OnnxParser(self, network: Any, log: Any) -> Any:
        return SimpleNamespace(
            parse=lambda onnx: not self.errors, num_errors=len(self.errors), get_error=self.errors.__getitem__
        )

    def _network(self, flags: int) -> Any:
        self.network_flags = flags
        return SimpleNamespace(num_layers=len(self.layers), get_layer=self.layers.__getitem__)

    def _config(self) -> Any:
        self.config = Config(self.new)
        return self.config


class Config:
    def __init__(self, new: bool) -> None:
        self.flags: dict[str, bool] = {}
        self.pools: dict[str, int] = {}
        self.cache: Any = None
        if new:
            self.hardware_compatibility_level = self.builder_optimization_level = None

    def set_flag(self, flag: Any) -> None:
        self.flags[flag.name] = True

    def clear_flag(self, flag: Any) -> None:
        self.flags[flag.name] = False

    def set_memory_pool_limit(self, pool: Any, limit: int) -> None:
        self.pools[pool.name] = limit

    def create_timing_cache(self, content: bytes) -> Any:
        return None if content == b"damaged" else SimpleNamespace(serialize=lambda: content + b"+", content=content)

    def set_timing_cache(self, cache: Any, ignore: bool) -> bool:
        if cache.content == b"of another GPU":
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self.cache
