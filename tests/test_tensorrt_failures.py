"""The TensorRT runtime where the driver fails: at each call in turn, for once or for good."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from edgeseg.errors import ArtifactError, DeviceError, EdgesegError
from edgeseg.runtimes import Engine
from tests.cuda_stand_in import Cuda, CUresult, Injection
from tests.tensorrt_stand_in import TensorRT
from tests.test_tensorrt_runtime import Bench, Interface, bench, finish, frame, install, primary, same

__all__ = ["bench"]

RELEASES = {
    "cuMemFree", "cuMemFreeHost", "cuStreamDestroy", "cuEventDestroy", "cuGraphDestroy", "cuGraphExecDestroy",
    "cuDevicePrimaryCtxRelease",
}  # fmt: skip
CALLS = sorted(
    RELEASES
    | {
        "cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute", "cuCtxGetCurrent",
        "cuCtxGetDevice", "cuCtxPushCurrent", "cuCtxPopCurrent", "cuDevicePrimaryCtxGetState",
        "cuDevicePrimaryCtxRetain", "cuMemAlloc", "cuMemAllocHost", "cuPointerGetAttribute", "cuMemcpyHtoDAsync",
        "cuMemcpyDtoHAsync", "cuMemcpyDtoDAsync", "cuStreamCreate", "cuStreamSynchronize", "cuStreamGetCtx",
        "cuStreamWaitEvent", "cuEventCreate", "cuEventRecord", "cuEventSynchronize", "cuStreamBeginCapture",
        "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphLaunch",
    }
)  # fmt: skip


UNSEEN, HELD = ("cuMemFree", "cuCtxPushCurrent", "cuCtxPopCurrent"), 4  # arrays that go last have nobody to tell


def scenario(bench: Bench) -> list[str]:
    """All that the runtime does, once. Gives the errors met; an engine that was opened is closed."""
    cuda, met = bench.cuda, []
    theirs = cuda.make_context()  # PyCUDA's, beside an active primary one: PyTorch's
    cuda.retain_primary()
    cuda.stack[:] = [theirs]
    engine: Engine | None = None
    held: list[Any] = []
    stream = cuda.own_stream(theirs)
    unaligned = Interface(cuda, frame(3), theirs, offset=64)
    before = Counter(cuda.calls)
    try:
        engine = bench.open(cuda_graph=True)
        for seed in range(3):
            assert same(engine.run({"frame": frame(seed)}), frame(seed))
        assert same(engine.run({"frame": unaligned}), frame(3))
        held += engine.run_device({"frame": unaligned}, stream=stream).values()
        held[0].__dlpack__(stream=2)
        engine.run({"frame": frame()})
        held += engine.run_device({"frame": frame()}).values()
    except EdgesegError as error:
        met.append(f"{type(error).__name__} {error}")
    if engine is not None:
        try:
            engine.close()
        except EdgesegError as error:
            met.append(f"{type(error).__name__} {error}")
    del engine, held
    gc.collect()
    assert not before
    del cuda.streams[stream]
    unaligned.free()
    if cuda.stack == [theirs]:
        cuda.stack.clear()
    return met


def fresh(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Bench:
    cuda = Cuda()
    return install(monkeypatch, folder, cuda, TensorRT(cuda))


def primary_scenario(bench: Bench) -> list[str]:
    """As ``scenario``, with nobody's context current: the primary one is the engine's."""
    met = []
    try:
        with bench.open() as engine:
            assert same(engine.run({"frame": frame()}), frame())
    except EdgesegError as error:
        met.append(f"{type(error).__name__} {error}")
    gc.collect()
    return met


SCENARIOS = (scenario, primary_scenario)


def test_the_list_of_calls_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: set[str] = set()
    for run in SCENARIOS:
        made = fresh(monkeypatch, tmp_path)
        assert run(made) == []
        seen |= set(made.cuda.calls)
    assert sorted(seen) == CALLS


FAILS = [(name, False) for name in CALLS] + [(name, True) for name in sorted(RELEASES)]


@pytest.mark.parametrize(("function", "happens"), FAILS)
def test_a_call_that_fails_once(function: str, happens: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One line that names the call and the driver's error; nothing stays behind, the thread's context least of all.
    ``happens``: a release does its work and reports what failed before."""
    for run in SCENARIOS:
        made = fresh(monkeypatch, tmp_path)
        run(made)
        kept, total = made.cuda.alive(), made.cuda.calls[function]
        for nth in range(1, total + 1):
            made = fresh(monkeypatch, tmp_path)
            made.cuda.injection = Injection(function, nth, CUresult.CUDA_ERROR_UNKNOWN, happens)
            met = run(made)
            assert met or (function in UNSEEN and nth > total - HELD), (run, nth)
            for line in met:
                assert f"{function}: CUDA_ERROR_UNKNOWN" in line and "\n" not in line, line
            if function != "cuCtxPushCurrent":  # no context, no release
                left = Counter(made.cuda.alive()) - Counter(kept)
                assert left.total() <= (0 if happens or function not in RELEASES else 1), (run, nth, left)
                assert made.trt.executions == 0 and not made.trt.live
            if function != "cuCtxPopCurrent":
                assert made.cuda.stack == []
            made.cuda.stack.clear()


@pytest.mark.parametrize("function", [name for name in CALLS if name not in ("cuDeviceGetName",)])
def test_a_call_after_which_the_gpu_is_lost(function: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is said once, with what to do; later calls say so too, and close is silent."""
    for run in SCENARIOS:
        made = fresh(monkeypatch, tmp_path)
        run(made)
        for nth in range(1, made.cuda.calls[function] + 1):
            again = fresh(monkeypatch, tmp_path)
            again.cuda.injection = Injection(function, nth, CUresult.CUDA_ERROR_ILLEGAL_ADDRESS)
            met = run(again)
            assert len(met) <= 1, met
            for line in met:
                assert "CUDA_ERROR_ILLEGAL_ADDRESS" in line and "start the program again" in line


def test_a_lost_gpu_stays_lost(bench: Bench) -> None:
    engine = bench.open()
    bench.trt.refuses = {"launch"}
    with pytest.raises(DeviceError, match="cuStreamSynchronize: CUDA_ERROR_LAUNCH_FAILED, the engine is lost with its"):
        engine.run({"frame": frame()})
    pushed = bench.cuda.calls["cuCtxPushCurrent"]
    for _ in range(2):
        with pytest.raises(DeviceError, match="CUDA_ERROR_LAUNCH_FAILED in an earlier call, the engine is lost"):
            engine.run({"frame": frame()})
    assert bench.cuda.calls["cuCtxPushCurrent"] == pushed  # the driver is not asked any more
    engine.close()
    del engine
    forget(bench)


def forget(bench: Bench) -> None:
    """A dead context took it all with it."""
    gc.collect()
    for books in (bench.cuda.memory, bench.cuda.host, bench.cuda.events, bench.cuda.primary):
        books.clear()
    bench.cuda.streams = {n: s for n, s in bench.cuda.streams.items() if n <= 2}
    bench.cuda.violations.clear()
    bench.cuda.dead = None
    bench.cuda.stack.clear()


def test_a_lost_gpu_is_not_taken_for_a_wrong_array(bench: Bench) -> None:
    engine = bench.open()
    array = Interface(bench.cuda, frame(), primary(bench.cuda))
    bench.cuda.injection = Injection("cuPointerGetAttribute", 1, CUresult.CUDA_ERROR_LAUNCH_FAILED)
    with pytest.raises(DeviceError, match="CUDA_ERROR_LAUNCH_FAILED"):
        engine.run({"frame": array})
    engine.close()
    del engine
    forget(bench)


def test_no_memory_says_how_much_there_is(bench: Bench) -> None:
    bench.cuda.total = 100
    line = r"cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY, 0 of 0 MB are free: close what else uses the GPU, or open"
    with pytest.raises(DeviceError, match=line):
        bench.open()
    bench.cuda.injection = Injection("cuMemGetInfo", 2, CUresult.CUDA_ERROR_UNKNOWN)
    with pytest.raises(DeviceError, match="cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY: close what else"):
        bench.open()
    bench.cuda.cuMemGetInfo = _refuse  # type: ignore[method-assign, assignment]
    with pytest.raises(DeviceError, match="cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY: close what else"):
        bench.open()


def _refuse() -> None:
    raise RuntimeError("Function cuMemGetInfo not found")


def test_no_memory_for_one_more_thread(bench: Bench) -> None:
    bench.trt.refuses = {"create_execution_context"}
    line = "makes no execution context, for which it needs 0 MB of GPU memory, .* MB are free: OutOfMemory; close what"
    with pytest.raises(DeviceError, match=line):
        bench.open()


def test_tensorrt_that_does_not_run(bench: Bench) -> None:
    with bench.open() as engine:
        for call, line in (
            ("execute_async_v3", "TensorRT did not run the engine: execute_async_v3 is refused"),
            ("set_tensor_address", "TensorRT does not take an address for 'frame': set_tensor_address is refused"),
        ):
            bench.trt.refuses = {call}
            array = Interface(bench.cuda, frame(), primary(bench.cuda))
            with pytest.raises(DeviceError, match=line):
                engine.run({"frame": array})
            bench.trt.refuses = set()
            assert same(engine.run({"frame": frame(1)}), frame(1))  # it was not the end
            array.free()


def test_an_engine_that_is_no_graph(bench: Bench) -> None:
    with bench.open(cuda_graph=True) as engine:
        bench.trt.refuses = {"capture"}
        with pytest.raises(ArtifactError, match="capture is refused: this engine does not become a CUDA graph; open"):
            engine.run({"frame": frame()})
        bench.trt.refuses = set()
        assert same(engine.run({"frame": frame(2)}), frame(2))


def test_a_failed_call_leaves_nothing_in_flight(bench: Bench) -> None:
    """The buffers are filled again by the next frame: what reads them late would give the wrong answer."""
    with bench.open() as engine:
        stream = bench.cuda.own_stream(primary(bench.cuda))
        at = bench.cuda.calls["cuEventRecord"] + 1
        bench.cuda.injection = Injection("cuEventRecord", at, CUresult.CUDA_ERROR_UNKNOWN)
        with pytest.raises(DeviceError, match="cuEventRecord: CUDA_ERROR_UNKNOWN"):
            engine.run_device({"frame": frame(1)}, stream=stream)
        assert not bench.cuda.streams[stream].pending
        assert same(engine.run({"frame": frame(2)}), frame(2))
        finish(bench.cuda, stream)
    del bench.cuda.streams[stream]


def test_an_array_freed_after_the_process_lost_its_gpu_is_silent(bench: Bench) -> None:
    engine = bench.open()
    kept: dict[str, Any] = engine.run_device({"frame": frame()})
    engine.close()
    bench.cuda.dead = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    kept.clear()
    gc.collect()
    forget(bench)


def test_a_stream_that_fails_to_wait_does_not_leak_its_event(bench: Bench) -> None:
    with bench.open() as engine:
        stream = bench.cuda.own_stream(primary(bench.cuda))
        outputs = engine.run_device({"frame": frame()}, stream=stream)
        events = bench.cuda.alive()["events"]
        bench.cuda.injection = Injection("cuStreamWaitEvent", 1, CUresult.CUDA_ERROR_UNKNOWN)
        with pytest.raises(DeviceError, match="cuStreamWaitEvent"):
            outputs["labels"].__dlpack__(stream=2)
        assert bench.cuda.alive()["events"] == events
        outputs.clear()
    del bench.cuda.streams[stream]


# The real packages, where they are installed.

NO_GPU = not list(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/nvhost-gpu").exists()


def test_the_double_has_the_real_signatures() -> None:
    driver = pytest.importorskip("cuda.bindings.driver")
    for function in [*CALLS, "cuMemGetInfo"]:
        line = getattr(driver, function).__doc__.splitlines()[0]
        real = [a for a in re.search(r"\((.*)\)", line)[1].split(",") if a.strip()]  # type: ignore[index]
        body = getattr(Cuda, function).__wrapped__
        assert body.__code__.co_argcount - 1 == len(real), line
    for kind in ("CUdevice_attribute", "CUpointer_attribute", "CUstream_flags", "CUevent_flags", "CUstreamCaptureMode"):
        for member in getattr(Cuda, kind):
            assert int(getattr(getattr(driver, kind), member.name)) == member
    for code in CUresult:
        assert int(getattr(driver.CUresult, code.name)) == code


@pytest.mark.skipif(not NO_GPU, reason="this machine has a GPU")
def test_real_packages_without_a_driver_end_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings.driver")
    rtx = pytest.importorskip("tensorrt_rtx")
    code = f"""
from pathlib import Path
from edgeseg.errors import DeviceError
from edgeseg.runtimes.tensorrt import Runtime
from tests.test_tensorrt_runtime import manifest
try:
    Runtime(Path({str(tmp_path)!r}), manifest(package="tensorrt_rtx", tensorrt={rtx.__version__!r}), None)
except DeviceError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("no NVIDIA GPU can be used here (cuInit: ") and done.stdout.count("\n") == 1


@pytest.mark.skipif(not NO_GPU, reason="this machine has a GPU")
def test_the_real_tensorrt_for_rtx_says_why_it_refuses(bench: Bench) -> None:
    """Its runtime, logger and validity check work without a driver; its engines do not."""
    from edgeseg.runtimes._tensorrt.driver import Driver
    from edgeseg.runtimes._tensorrt.plan import Plan
    from tests.test_tensorrt_runtime import manifest

    rtx = pytest.importorskip("tensorrt_rtx")
    (bench.folder / "model.plan").write_bytes(b"no plan" * 1000)
    with pytest.raises(ArtifactError, match=r"model.plan is not for this machine: MALFORMED_ENGINE; build it here"):
        Plan(rtx, Driver(bench.cuda), bench.folder, manifest())
    (bench.folder / "model.plan").write_bytes(_real_plan(rtx))
    with pytest.raises(ArtifactError, match=r"is not for this machine: Error reading CUDA GPU properties.*; build it"):
        Plan(rtx, Driver(bench.cuda), bench.folder, manifest())


def _real_plan(rtx: Any) -> Any:
    logger = rtx.Logger(rtx.Logger.ERROR)
    builder = rtx.Builder(logger)
    network, config = builder.create_network(0), builder.create_builder_config()
    values = network.add_input("frame", rtx.float32, (1, 3, 4, 6))
    network.mark_output(network.add_activation(values, rtx.ActivationType.RELU).get_output(0))
    config.num_compute_capabilities = 1
    config.set_compute_capability(rtx.ComputeCapability.SM86, 0)
    return builder.build_serialized_network(network, config)
