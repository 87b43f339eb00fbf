"""ONNX → a TensorRT engine (``model.plan``): one builder for TensorRT 8.5 to 11 and TensorRT for RTX.

What a version can do is read off its bindings, not off its number. Imports neither torch nor onnx until a network is
compiled: a board that finishes a build ticket has neither. TensorRT builds for the GPU it runs on; TensorRT for RTX
builds ahead of time too, on a machine without one, and such an engine has proved nothing yet.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeseg import nvidia
from edgeseg.artifact import write_whole
from edgeseg.errors import ArtifactError, InputError, MissingExtra
from edgeseg.export import calibration_cache

if TYPE_CHECKING:
    import onnx_ir as ir

PRECISIONS = ("fp32", "fp16", "int8")
FILE = "model.plan"
FLOAT_MARK = "_in_float32"  # ends the names of nodes that would overflow in fp16
AHEAD_OF_TIME = "8.6"  # the compute capability to build for where no GPU is
PACKAGES = ("tensorrt", "tensorrt_rtx")


@dataclass(frozen=True)
class BuildOptions:
    """``timing_cache`` is read where it is there, and written after the build. ``calibration_cache``: the scales of
    int8 where they do not stand in the graph (DLA until TensorRT 10). ``compute_capability``, as "8.6", builds ahead
    of time, by TensorRT for RTX alone."""

    workspace_bytes: int | None = None
    timing_cache: Path | None = None
    calibration_cache: bytes | None = None
    dla_core: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    compute_capability: str | None = None
    optimization_level: int | None = None


def package() -> tuple[str, str]:
    """TensorRT's package here and its version: ("tensorrt", "10.3.0") or ("tensorrt_rtx", "1.7.1.116").

    Raises:
        MissingExtra: neither is installed.
    """
    trt = _bindings()
    return trt.__name__, str(trt.__version__)


def build_plan(onnx: bytes, precision: str, options: BuildOptions | None = None) -> bytes:
    """The engine of the ONNX model ``onnx``, which edgeseg.export.tensorrt_graph prepared for this TensorRT.

    Raises:
        ArtifactError: the parser or the builder refuses it, in TensorRT's words.
        InputError: an option that this TensorRT does not have, or no device to build on.
        MissingExtra: no TensorRT here.
    """
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision '{precision}': use one of {', '.join(PRECISIONS)}")
    with warnings.catch_warnings():  # what an old version requires, a new one calls deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        return _Build(_bindings(), options or BuildOptions()).run(onnx, precision)


def compile(model: ir.Model, precision: str, folder: Path) -> list[str]:
    """Build ``model`` (Q/DQ for int8) for this machine's GPU, or ahead of time; returns the file names."""
    from edgeseg.export import preflight, tensorrt_graph

    trt = _bindings()
    form = tensorrt_graph.prepare(model, precision, preflight.generation(*package()))
    options = BuildOptions(compute_capability=_ahead(trt))
    (folder / FILE).write_bytes(build_plan(tensorrt_graph.to_bytes(form), precision, options))
    return [FILE]


def toolchain() -> dict[str, str]:
    return dict([package()])


def weight_levels() -> int:
    """All of int8: the tensor cores accumulate in 32 bits."""
    return 127


def device() -> dict[str, Any]:
    """What the engines that ``compile`` makes here are for, and the state of the machine that made them."""
    name, version = package()
    ahead = _ahead(_bindings())
    found = {"package": name, "tensorrt": version, **nvidia.facts()}
    if ahead:
        return {**found, "compute_capability": ahead, "ahead_of_time": True}
    here = nvidia.capability()
    return {**found, "compute_capability": here} if here else found


def cannot_run() -> str | None:
    """What keeps engines from running on this machine, None where they may."""
    return None if nvidia.present() else "no NVIDIA GPU"


def _bindings() -> Any:
    for name in PACKAGES:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    raise MissingExtra(
        "target tensorrt", "TensorRT (a Jetson's comes with JetPack) or TensorRT for RTX", "tensorrt-rtx"
    ) from None


def _ahead(trt: Any) -> str | None:
    """The compute capability that is built for ahead of time, None where a GPU is here to build on."""
    return AHEAD_OF_TIME if hasattr(trt, "ComputeCapability") and not nvidia.present() else None


def _log(trt: Any) -> Any:
    """A logger that keeps TensorRT's errors, to quote them."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(" ".join(message.split()))

    return Log()


def _network_flags(trt: Any) -> int:
    """Explicit batch is required by TensorRT 8, ignored by 10, gone in 11."""
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    return 0 if explicit is None else 1 << int(explicit)


class _Build:
    def __init__(self, trt: Any, options: BuildOptions) -> None:
        self.trt, self.options, self.title = trt, options, f"{trt.__name__} {trt.__version__}"
        self.log = _log(trt)
        if not hasattr(trt, "ComputeCapability") and not nvidia.present():  # 8.6 crashes when asked without a driver
            raise InputError(
                f"{self.title} builds on the GPU that the engine is for, and none is here: make a build ticket"
                " (--for BOARD), or install TensorRT for RTX, which builds ahead of time (the extra tensorrt-rtx)"
            )
        try:
            self.builder = trt.Builder(self.log)
        except TypeError:  # its factory gave nothing
            raise InputError(f"{self.title} builds only where it finds an NVIDIA GPU{self._complaint()}") from None

    def run(self, onnx: bytes, precision: str) -> bytes:
        network = self.builder.create_network(_network_flags(self.trt))
        self._parse(network, onnx)
        config = self.builder.create_builder_config()
        self._precision(network, config, precision)
        self._place(config)
        self._set_options(config)
        timing = self._timing_cache(config)
        plan = self.builder.build_serialized_network(network, config)
        if plan is None:
            raise ArtifactError(f"{self.title} does not build this graph{self._complaint()}")
        if timing is not None and self.options.timing_cache is not None:
            write_whole(self.options.timing_cache, bytes(config.get_timing_cache().serialize()))
        return bytes(plan)

    def _parse(self, network: Any, onnx: bytes) -> None:
        parser = self.trt.OnnxParser(network, self.log)
        if parser.parse(onnx):
            return
        errors = [_said(parser.get_error(i)) for i in range(parser.num_errors)]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        said = f": {errors[0]}{more}" if errors else self._complaint()
        raise ArtifactError(f"{self.title} does not parse this graph{said}")

    def _precision(self, network: Any, config: Any, precision: str) -> None:
        flags, tf32 = self.trt.BuilderFlag, getattr(self.trt.BuilderFlag, "TF32", None)
        if precision == "fp32" and tf32 is not None:
            config.clear_flag(tf32)  # ten bits of mantissa are not fp32
        if hasattr(flags, "FP16"):
            if precision != "fp32":
                config.set_flag(flags.FP16)
                self._keep_float(network, config)
            if precision == "int8":
                config.set_flag(flags.INT8)
        elif precision == "fp16" and not _has_type(network, self.trt.DataType.HALF):
            raise ArtifactError(
                f"{self.title} takes fp16 from the graph alone, and this one is in float32: it was prepared for a"
                " TensorRT before 11; prepare it again for this one"
            )
        if self.options.calibration_cache is not None:
            self._calibrate(config, precision)

    def _keep_float(self, network: Any, config: Any) -> None:
        layers = [network.get_layer(i) for i in range(network.num_layers)]
        marked = [layer for layer in layers if FLOAT_MARK in layer.name]
        for layer in marked:
            layer.precision = self.trt.DataType.FLOAT
            for i in range(layer.num_outputs):
                if layer.get_output(i).dtype == self.trt.DataType.FLOAT:
                    layer.set_output_type(i, self.trt.DataType.FLOAT)
        if marked:
            config.set_flag(self.trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)

    def _calibrate(self, config: Any, precision: str) -> None:
        base = getattr(self.trt, "IInt8EntropyCalibrator2", None)
        if base is None or precision != "int8":
            raise InputError(f"{self.title} takes no calibration cache for {precision}: its scales stand in the graph")
        assert self.options.calibration_cache is not None
        content = calibration_cache.for_version(self.options.calibration_cache, str(self.trt.__version__))
        self.calibrator = _calibrator(base, content)  # the config holds no reference
        config.int8_calibrator = self.calibrator

    def _place(self, config: Any) -> None:
        core = self.options.dla_core
        if core is not None:
            if not 0 <= core < int(self.builder.num_DLA_cores):
                raise InputError(f"{self.title} finds {self.builder.num_DLA_cores} DLA cores here, there is no {core}")
            config.default_device_type = self.trt.DeviceType.DLA
            config.DLA_core = core
            config.set_flag(self.trt.BuilderFlag.GPU_FALLBACK)
        capability = self.options.compute_capability
        if hasattr(config, "set_compute_capability"):
            known = self.trt.ComputeCapability
            name = "CURRENT" if capability is None else f"SM{capability.replace('.', '')}"
            if not hasattr(known, name):
                having = [f"{n[2:-1]}.{n[-1]}" for n in known.__members__ if n.startswith("SM")]
                raise InputError(
                    f"{self.title} does not build for compute capability {capability}: {', '.join(having)}"
                )
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(known, name), 0)
        elif capability is not None:
            raise InputError(f"{self.title} builds for the GPU it runs on alone: leave out compute capability")

    def _set_options(self, config: Any) -> None:
        options = self.options
        if options.workspace_bytes is not None:
            config.set_memory_pool_limit(self.trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
        if options.version_compatible:
            config.set_flag(self._having(self.trt.BuilderFlag, "VERSION_COMPATIBLE"))
        if options.hardware_compatible:
            self._having(config, "hardware_compatibility_level")
            config.hardware_compatibility_level = self.trt.HardwareCompatibilityLevel.AMPERE_PLUS
        if options.optimization_level is not None:
            self._having(config, "builder_optimization_level")
            config.builder_optimization_level = options.optimization_level

    def _having(self, where: Any, name: str) -> Any:
        if not hasattr(where, name):
            raise InputError(f"{self.title} has no {name.lower()}: leave the option out")
        return getattr(where, name)

    def _timing_cache(self, config: Any) -> Any:
        """The cache in use, None where none is asked for. One of another version or GPU is passed over."""
        path = self.options.timing_cache
        if path is None:
            return None
        for content in (path.read_bytes() if path.is_file() else b"", b""):
            cache = config.create_timing_cache(content)
            if cache is not None and config.set_timing_cache(cache, False):
                return cache
        return None

    def _complaint(self) -> str:
        return f": {self.log.errors[0]}" if self.log.errors else ""


def _said(error: Any) -> str:
    """A parser's error in a line: the node, where the bindings name it (10 and later), and what it says."""
    node, operator = (str(getattr(error, name, str)()) for name in ("node_name", "node_operator"))
    where = f"node '{node}' ({operator}): " if node or operator else ""
    if not where and int(error.node()) >= 0:
        where = f"node number {error.node()}: "
    return where + " ".join(str(error.desc()).split())


def _has_type(network: Any, dtype: Any) -> bool:
    layers = (network.get_layer(i) for i in range(network.num_layers))
    return any(layer.get_output(k).dtype == dtype for layer in layers for k in range(layer.num_outputs))


def _calibrator(base: Any, content: bytes) -> Any:
    class Scales(base):  # type: ignore[misc]
        """Gives the cache and no images."""

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: list[str]) -> None:
            return None

        def read_calibration_cache(self) -> bytes:
            return content

        def write_calibration_cache(self, cache: Any) -> None:
            return None

    return Scales()
