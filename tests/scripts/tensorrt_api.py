"""Does the builder (export/tensorrt.py) find in a version of TensorRT what it looks for there?

    python tests/scripts/tensorrt_api.py FOLDER MODULE [LIBRARY...]

imports the real bindings MODULE from FOLDER, lets the builder make its logger, its calibrator and its network flags
from them, and prints as JSON which names they have. Each LIBRARY (a shared object's name) is replaced by one of empty
functions, so bindings import without NVIDIA's libraries; nothing is computed. CI runs it on the bindings of 10.3 and
11.4 (tests/test_tensorrt_api.py). Outside CI, since the wheel has 549 MB and wants Python 3.10, on TensorRT 8.5.2,
where it was run with 8.5.2.2: every name of ALWAYS is there, and of SOMETIMES all but those that came later:

    python3.10 -m venv old && old/bin/pip install --no-deps tensorrt==8.5.2.2
    old/bin/python tests/scripts/tensorrt_api.py old/lib/python3.10/site-packages tensorrt libnvinfer_plugin.so.8
"""

from __future__ import annotations

import ctypes
import importlib
import json
import subprocess
import sys
import tempfile
from functools import reduce
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FUNCTIONS = (
    "createInferBuilder_INTERNAL createInferRefitter_INTERNAL createInferRuntime_INTERNAL createNvOnnxParser_INTERNAL"
    " createNvOnnxParserRefitter_INTERNAL getNvOnnxParserVersion initLibNvInferPlugins getBuilderPluginRegistry"
    " getPluginRegistry getLogger getInferLibVersion"
)
ALWAYS = """
Builder.create_network Builder.create_builder_config Builder.build_serialized_network Builder.num_DLA_cores
OnnxParser.parse OnnxParser.num_errors OnnxParser.get_error ParserError.desc ParserError.node
ILogger.ERROR ILogger.INTERNAL_ERROR NetworkDefinitionCreationFlag BuilderFlag.GPU_FALLBACK BuilderFlag.TF32
IBuilderConfig.set_flag IBuilderConfig.clear_flag IBuilderConfig.set_memory_pool_limit MemoryPoolType.WORKSPACE
IBuilderConfig.create_timing_cache IBuilderConfig.set_timing_cache IBuilderConfig.get_timing_cache
ITimingCache.serialize IBuilderConfig.default_device_type IBuilderConfig.DLA_core DeviceType.DLA
DataType.HALF DataType.FLOAT INetworkDefinition.num_layers INetworkDefinition.get_layer ILayer.name ILayer.num_outputs
ILayer.get_output ITensor.dtype
"""
SOMETIMES = """
NetworkDefinitionCreationFlag.EXPLICIT_BATCH BuilderFlag.FP16 BuilderFlag.INT8 BuilderFlag.OBEY_PRECISION_CONSTRAINTS
ILayer.precision ILayer.set_output_type IInt8EntropyCalibrator2 IBuilderConfig.int8_calibrator
BuilderFlag.VERSION_COMPATIBLE IBuilderConfig.hardware_compatibility_level HardwareCompatibilityLevel.AMPERE_PLUS
IBuilderConfig.builder_optimization_level ParserError.node_name ParserError.node_operator
ComputeCapability IBuilderConfig.set_compute_capability IBuilderConfig.num_compute_capabilities
"""


def main(folder: str, module: str, *libraries: str) -> None:
    with tempfile.TemporaryDirectory() as stubs:
        for library in libraries:
            ctypes.CDLL(str(_stub(Path(stubs), library)), ctypes.RTLD_GLOBAL)
        sys.path[:0] = [str(ROOT), folder]
        trt = importlib.import_module(module)
    print(json.dumps({"version": str(trt.__version__), "names": _names(trt), "builder": _builder(trt)}, indent=1))


def _stub(folder: Path, library: str) -> Path:
    source = folder / "stub.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in FUNCTIONS.split()))
    path = folder / library
    subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(path), str(source)], check=True)
    return path


def _names(trt: Any) -> dict[str, bool]:
    return {name: _has(trt, name) for name in (ALWAYS + SOMETIMES).split()}


def _has(trt: Any, name: str) -> bool:
    missing = object()
    return reduce(lambda at, part: getattr(at, part, missing), name.split("."), trt) is not missing


def _builder(trt: Any) -> dict[str, Any]:
    """What the builder makes of the bindings."""
    from edgeseg.export import tensorrt

    log = tensorrt._log(trt)
    log.log(trt.ILogger.ERROR, "one\n two")
    log.log(trt.ILogger.WARNING, "three")
    base = getattr(trt, "IInt8EntropyCalibrator2", None)
    flags = tensorrt._network_flags(trt)
    calibrator = None if base is None else tensorrt._calibrator(base, b"cache").read_calibration_cache().decode()
    return {"errors": log.errors, "network_flags": flags, "calibrator": calibrator}


if __name__ == "__main__":
    main(*sys.argv[1:])
