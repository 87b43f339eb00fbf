"""The TensorRT runtime on doubles of the driver and of the engine: whose memory, which stream, which thread."""

from __future__ import annotations

import gc
import importlib
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.errors import ArtifactError, DeviceError, InputError, MissingExtra
from edgeseg.manifest import Manifest, ModelEntry, Weights
from edgeseg.runtimes import Engine
from edgeseg.runtimes._tensorrt.device_array import DeviceArray
from edgeseg.spec import Preprocess, TensorSpec
from tests.cuda_stand_in import Cuda
from tests.tensorrt_stand_in import SHAPE, TensorRT, expected, write_plan

MODULE = "edgeseg.runtimes.tensorrt"
DEVICE = {"kind": "cuda", "compute_capability": "8.6", "tensorrt": "10.3.0", "package": "tensorrt"}


def manifest(**device: Any) -> Manifest:
    return Manifest(
        model=ModelEntry("enet", "paper", "semantic", 1, 0.1, "", Weights("random:1", "")),
        target="tensorrt", precision="fp32",
        inputs=(TensorSpec("frame", (1, *SHAPE, 3), "uint8"),),
        outputs=(TensorSpec("labels", (1, *SHAPE), "uint8"), TensorSpec("logits", (1, 3, *SHAPE), "float32")),
        preprocess=Preprocess(SHAPE), classes=(), ignore_index=None, files={}, calibration=None, toolchain={},
        device={**DEVICE, **device}, onnx_sha256="", created="",
    )  # fmt: skip


def frame(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (1, *SHAPE, 3), np.uint8)


def same(got: Any, want: NDArray[np.uint8]) -> bool:
    return all((got[name] == values).all() for name, values in expected(want).items())


@dataclass
class Bench:
    """The doubles, and the runtime's module on them."""

    cuda: Cuda
    trt: TensorRT
    folder: Path

    def open(self, threads: int | None = None, built: Any = None, **options: Any) -> Engine:
        described = manifest(**(built or {}))
        runtime = importlib.import_module(MODULE).Runtime(self.folder, described, threads, **options)
        return Engine(described, runtime)

    def clean(self) -> None:
        gc.collect()
        assert self.cuda.alive() == {}
        assert self.trt.executions == 0 and not self.trt.live
        assert self.cuda.violations == []


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, cuda: Cuda, trt: TensorRT) -> Bench:
    bindings, package = ModuleType("cuda.bindings"), ModuleType("cuda")
    bindings.driver = cuda  # type: ignore[attr-defined]
    package.bindings = bindings  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda", package)
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setitem(sys.modules, MODULE, trt)  # so that the end of the test takes the module away again
    del sys.modules[MODULE]
    importlib.import_module(MODULE)
    write_plan(folder)
    return Bench(cuda, trt, folder)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    cuda = Cuda((("Stand-in", "8.6"), ("Other", "8.7")))
    made = install(monkeypatch, tmp_path, cuda, TensorRT(cuda))
    yield made
    made.clean()


class Interface:
    """A GPU array of PyCUDA (version 2), or of CuPy and Numba (version 3)."""

    def __init__(self, cuda: Cuda, values: NDArray[Any], context: int, offset: int = 0, **more: Any) -> None:
        self.shape, self.dtype, self._cuda = values.shape, values.dtype, cuda
        self.address = cuda.allocate(values.tobytes(), context, offset)
        self._start = self.address - offset
        self.__cuda_array_interface__: dict[str, Any] = {
            "shape": values.shape, "typestr": values.dtype.str, "data": (self.address, False), "version": 2, **more,
        }  # fmt: skip

    def numpy(self) -> NDArray[Any]:
        size = self.dtype.itemsize * int(np.prod(self.shape))
        return np.frombuffer(self._cuda.read(self.address, size), self.dtype).reshape(self.shape)

    def free(self) -> None:
        del self._cuda.memory[self._start]


class Dlpack:
    """A GPU array of PyTorch: dtypes with a name of their own, and a stream that its values are computed on."""

    def __init__(self, cuda: Cuda, values: NDArray[Any], context: int) -> None:
        from edgeseg.runtimes._tensorrt import dlpack

        self._export, self._cuda, self._values = dlpack.export, cuda, values
        self.shape, self.dtype = values.shape, f"torch.{values.dtype}"
        self.address = cuda.allocate(bytes(values.nbytes), context)
        self.asked: list[int] = []
        self.device = (2, 0)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: int) -> Any:
        self.asked.append(stream)
        self._cuda.enqueue(stream, lambda: self._cuda.write(self.address, self._values.tobytes()))
        return self._export(self.address, self.shape, self._values.dtype, 0, self)

    def free(self) -> None:
        del self._cuda.memory[self.address]


def contents(cuda: Cuda, array: DeviceArray) -> NDArray[Any]:
    size = array.dtype.itemsize * int(np.prod(array.shape))
    return np.frombuffer(cuda.read(array.address, size), array.dtype).reshape(array.shape)


def values(cuda: Cuda, outputs: dict[str, Any]) -> dict[str, NDArray[Any]]:
    return {name: contents(cuda, array) for name, array in outputs.items()}


def primary(cuda: Cuda) -> int:
    return cuda.primary[0][0]


def finish(cuda: Cuda, stream: int) -> None:
    cuda.stack.append(primary(cuda))
    assert cuda.cuStreamSynchronize(stream) == (0,)
    cuda.stack.pop()


# Host arrays.


@pytest.mark.parametrize("graph", [False, True])
def test_outputs_are_the_frames_and_the_callers(bench: Bench, graph: bool) -> None:
    with bench.open(cuda_graph=graph) as engine:
        first = engine.run({"frame": frame(0)})
        for seed in range(1, 5):
            assert same(engine.run({"frame": frame(seed)}), frame(seed))
        assert same(first, frame(0))
        assert (engine.segment(frame(9)[0]) == expected(frame(9))["labels"][0]).all()
        assert same(engine.run({"frame": frame(3)[:, :, ::-1]}), frame(3)[:, :, ::-1])  # strides are no matter
        assert bench.cuda.calls["cuGraphLaunch"] == (6 if graph else 0)
        made = bench.cuda.calls["cuMemAllocHost"], bench.cuda.calls["cuMemAlloc"]
        assert made == (3, 3)  # once for all


def test_a_graph_stays_beside_arrays_on_the_gpu(bench: Bench) -> None:
    with bench.open(cuda_graph=True) as engine:
        there = Interface(bench.cuda, frame(7), primary(bench.cuda))
        for seed in range(3):
            assert same(engine.run({"frame": frame(seed)}), frame(seed))
            assert same(engine.run({"frame": there}), frame(7))
        assert bench.cuda.calls["cuGraphInstantiate"] == 1 and bench.cuda.calls["cuGraphLaunch"] == 2
        there.free()


def test_an_older_driver_api_instantiates_with_flags(bench: Bench) -> None:
    bench.cuda.cuGraphInstantiateWithFlags = bench.cuda.cuGraphInstantiate  # type: ignore[attr-defined]
    with bench.open(cuda_graph=True) as engine:
        assert same([engine.run({"frame": frame(1)}) for _ in range(2)][1], frame(1))


def test_eight_threads_each_with_its_own(bench: Bench) -> None:
    bench.trt.barrier = None
    with bench.open() as engine:
        bench.trt.barrier = threading.Barrier(8)
        wrong: list[int] = []

        def work(which: int) -> None:
            for turn in range(5):
                values = frame(100 * which + turn)
                if not same(engine.run({"frame": values}), values):
                    wrong.append(which)

        run_all(work, 8)
        assert not wrong
        assert bench.trt.executions == 8


def run_all(work: Any, count: int) -> None:
    workers = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert not any(worker.is_alive() for worker in workers)


def test_no_more_execution_contexts_than_threads_allowed(bench: Bench) -> None:
    with bench.open(threads=2) as engine:
        wrong: list[int] = []

        def work(which: int) -> None:
            for _ in range(10):
                if not same(engine.run({"frame": frame(which)}), frame(which)):
                    wrong.append(which)

        run_all(work, 6)
        assert not wrong
        assert bench.trt.most_executions <= 2


# Contexts.


def test_a_thread_finds_its_own_context_again(bench: Bench) -> None:
    with bench.open() as engine:
        theirs = bench.cuda.make_context(1)
        engine.run({"frame": frame()})
        assert bench.cuda.stack == [theirs]
        bench.cuda.violations.clear()
    assert bench.cuda.stack.pop() == theirs
    assert bench.cuda.calls["cuCtxPushCurrent"] == bench.cuda.calls["cuCtxPopCurrent"]


@pytest.mark.parametrize("primary_active", [False, True])
def test_a_context_of_pycudas_is_taken_and_its_arrays_read(bench: Bench, primary_active: bool) -> None:
    if primary_active:
        bench.cuda.retain_primary()
        bench.cuda.stack.pop()
    theirs = bench.cuda.make_context()
    with bench.open() as engine:
        array = Interface(bench.cuda, frame(2), theirs, strides=frame(2).strides)
        assert same(engine.run({"frame": array}), frame(2))
        array.free()
    assert bench.cuda.alive() == ({"primary": 1} if primary_active else {})
    bench.cuda.primary.clear()
    assert bench.cuda.stack == [theirs]


def test_pytorchs_primary_context_is_shared_and_retained(bench: Bench) -> None:
    bench.cuda.retain_primary()
    with bench.open() as engine:
        assert bench.cuda.alive()["primary"] == 2
        engine.run({"frame": frame()})
    assert bench.cuda.alive() == {"primary": 1}
    bench.cuda.primary.clear()


def test_the_second_gpu(bench: Bench) -> None:
    with bench.open(built={"compute_capability": "8.7"}, device=1) as engine:
        assert {memory.ordinal for memory in bench.cuda.memory.values()} == {1}
        assert same(engine.run({"frame": frame()}), frame())


# Arrays on the GPU.


@pytest.mark.parametrize("offset", [0, 256, 64])
def test_arrays_are_read_where_they_lie(bench: Bench, offset: int) -> None:
    with bench.open() as engine:
        array = Interface(bench.cuda, frame(1), primary(bench.cuda), offset)
        assert same(engine.run({"frame": array}), frame(1))
        assert bench.cuda.calls["cuMemcpyHtoDAsync"] == 0
        assert bench.cuda.calls["cuMemcpyDtoDAsync"] == (1 if offset % 256 else 0)  # TensorRT wants 256 bytes
        assert same(engine.run({"frame": frame(2)}), frame(2))
        array.free()


@pytest.mark.parametrize(("version", "stream", "waits"), [(2, None, 1), (3, None, None), (3, 1, 1), (3, 2, 2)])
def test_the_stream_of_the_array_interface_is_waited_for(
    bench: Bench, version: int, stream: int | None, waits: int | None
) -> None:
    with bench.open() as engine:
        array = Interface(bench.cuda, frame(0), primary(bench.cuda), version=version, stream=stream)
        late = frame(5).tobytes()
        bench.cuda.stack.append(primary(bench.cuda))
        for number in (1, 2):
            if number == waits:
                bench.cuda.enqueue(number, lambda: bench.cuda.write(array.address, late))
        bench.cuda.stack.pop()
        assert same(engine.run({"frame": array}), frame(5 if waits else 0))
        array.free()


def test_a_dlpack_producer_is_given_the_stream_to_fill(bench: Bench) -> None:
    with bench.open() as engine:
        array = Dlpack(bench.cuda, frame(6), primary(bench.cuda))
        assert same(engine.run({"frame": array}), frame(6))
        assert len(array.asked) == 1 and array.asked[0] > 2
        array.free()


def test_outputs_on_the_gpu_outlive_the_engine(bench: Bench) -> None:
    engine = bench.open()
    kept = engine.run_device({"frame": frame(3)})
    again = engine.run_device({"frame": frame(4)})
    for outputs, seed in ((kept, 3), (again, 4)):
        assert same(values(bench.cuda, outputs), frame(seed))
    interface = kept["logits"].__cuda_array_interface__
    assert interface["version"] == 3 and interface["stream"] is None and interface["typestr"] == "<f4"
    assert interface["shape"] == (1, 3, *SHAPE) and interface["data"] == (kept["logits"].address, False)
    engine.close()
    assert bench.cuda.alive() == {"primary": 1, "memory": 4}
    assert same(values(bench.cuda, kept), frame(3))
    del outputs, again
    gc.collect()
    assert bench.cuda.alive() == {"primary": 1, "memory": 2}
    kept.clear()


def test_one_engines_outputs_feed_another(bench: Bench) -> None:
    """As a consumer would: by DLPack and by the array interface."""
    with bench.open() as engine:
        first = Interface(bench.cuda, frame(1), primary(bench.cuda))
        bytes_out = engine.run_device({"frame": first})["labels"]
        assert bytes_out.__dlpack_device__() == (2, 0)
        with pytest.raises(InputError, match=r"'frame' must be uint8 \[1, 4, 6, 3\], got uint8 \[1, 4, 6\]"):
            engine.run({"frame": bytes_out})
        first.free()


def test_outputs_into_the_callers_arrays(bench: Bench) -> None:
    with bench.open() as engine:
        mine = Interface(bench.cuda, np.zeros((1, *SHAPE), np.uint8), primary(bench.cuda))
        outputs = engine.run_device({"frame": frame(8)}, out={"labels": mine})
        assert outputs["labels"] is mine
        assert same({"labels": mine.numpy(), "logits": contents(bench.cuda, outputs["logits"])}, frame(8))
        mine.free()


class Torch:
    def __init__(self, handle: int) -> None:
        self.cuda_stream = handle


STREAMS: dict[str, Any] = {
    "number": int,
    "torch": Torch,
    "cupy": lambda handle: SimpleNamespace(ptr=handle),
    "pycuda": lambda handle: SimpleNamespace(handle=handle),
    "protocol": lambda handle: SimpleNamespace(__cuda_stream__=lambda: (0, handle)),
}


@pytest.mark.parametrize("kind", STREAMS)
def test_a_callers_stream_carries_the_work(bench: Bench, kind: str) -> None:
    with bench.open() as engine:
        handle = bench.cuda.own_stream(primary(bench.cuda))
        outputs = engine.run_device({"frame": frame(1)}, stream=STREAMS[kind](handle))
        assert bench.cuda.streams[handle].pending  # it did not wait
        assert not contents(bench.cuda, outputs["logits"]).any()
        assert outputs["labels"].__cuda_array_interface__["stream"] == handle
        finish(bench.cuda, handle)
        assert same(values(bench.cuda, outputs), frame(1))
        # The next call may use the lane's host buffers only when the first is done.
        engine.run_device({"frame": frame(2)}, stream=handle)
        assert same(engine.run({"frame": frame(3)}), frame(3))
        engine.run_device({"frame": frame(2)}, stream=handle)
        outputs.clear()
    assert not bench.cuda.streams.pop(handle).pending  # close waited


def test_the_default_stream_is_a_stream(bench: Bench) -> None:
    with bench.open() as engine:
        outputs = engine.run_device({"frame": frame(1)}, stream=0)
        assert outputs["labels"].stream == 1
        finish(bench.cuda, 1)
        assert same(values(bench.cuda, outputs), frame(1))
        outputs.clear()


@pytest.mark.parametrize(("consumer", "ordered"), [(None, True), (2, True), (-1, False), ("own", False)])
def test_a_dlpack_consumer_waits_for_the_stream(bench: Bench, consumer: Any, ordered: bool) -> None:
    with bench.open() as engine:
        handle = bench.cuda.own_stream(primary(bench.cuda))
        outputs = engine.run_device({"frame": frame(1)}, stream=handle)  # to free one of them would wait for all
        labels = outputs["labels"]
        capsule = labels.__dlpack__(stream=handle if consumer == "own" else consumer)
        seen: list[bytes] = []
        reader = {None: 1, -1: 2, "own": 2}.get(consumer, consumer)
        bench.cuda.stack.append(primary(bench.cuda))
        address = labels.address
        bench.cuda.enqueue(reader, lambda: seen.append(bench.cuda.read(address, 24)))
        bench.cuda.cuStreamSynchronize(reader)
        bench.cuda.stack.pop()
        assert (seen[0] == expected(frame(1))["labels"].tobytes()) is ordered
        del capsule, labels, outputs
    del bench.cuda.streams[handle]


def test_a_device_array_is_not_copied(bench: Bench) -> None:
    with bench.open() as engine:
        labels = engine.run_device({"frame": frame(1)})["labels"]
        labels.__dlpack__(stream=2, dl_device=(2, 0), copy=False, max_version=(1, 0))
        for more in ({"copy": True}, {"dl_device": (1, 0)}, {"dl_device": (2, 1)}):
            with pytest.raises(BufferError, match="lies on its GPU"):
                labels.__dlpack__(**more)
        del labels


# What is refused, and with which words.


def test_arrays_that_do_not_fit(bench: Bench) -> None:
    cuda = bench.cuda
    with bench.open() as engine:
        home = primary(cuda)
        foreign = cuda.make_context()
        cuda.stack.pop()
        second = cuda.make_context(1)
        cuda.stack.pop()
        good, strides = frame(), frame().strides
        arrays: list[tuple[str, dict[str, Any], int]] = [
            ("must be uint8 .*, got float32", {"typestr": "<f4"}, home),
            ("must be C-contiguous", {"strides": (strides[0], 1, strides[1], 1)}, home),
            ("masked, read-only, or of stream 0", {"version": 3, "stream": 0}, home),
            ("masked, read-only, or of stream 0", {"mask": object()}, home),
            ("is not memory of the GPU: cuPointerGetAttribute: CUDA_ERROR_INVALID_VALUE", {"data": (4096, True)}, home),
            ("is of another CUDA context", {}, foreign),
            ("lies on GPU 1, the engine is on GPU 0", {}, second),
        ]
        for message, more, context in arrays:
            array = Interface(cuda, good, context, **more)
            with pytest.raises(InputError, match=message):
                engine.run({"frame": array})
            array.free()
        assert same(engine.run({"frame": good}), good)


def test_feeds_of_other_kinds(bench: Bench) -> None:
    cuda = bench.cuda
    with bench.open() as engine:
        bare = Interface(cuda, frame(1), primary(cuda))
        del bare.dtype
        assert same(engine.run({"frame": bare}), frame(1))
        with pytest.raises(InputError, match="a feed must be an array, not list"):
            engine.run({"frame": [1]})
        assert same(engine.run({"frame": TorchOnHost()}), frame(4))
        broken = Dlpack(cuda, frame(1), primary(cuda))
        broken.__dlpack__ = Refusal(BufferError("it requires grad"))  # type: ignore[method-assign]
        with pytest.raises(InputError, match="'frame' cannot be taken from the GPU: it requires grad"):
            engine.run({"frame": broken})
        broken.free()
        bare.free()


class TorchOnHost:
    shape, dtype = (1, *SHAPE, 3), "torch.uint8"

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __array__(self, *_: Any, **__: Any) -> NDArray[np.uint8]:
        return frame(4)


def test_outs_and_streams_that_do_not_fit(bench: Bench) -> None:
    cuda = bench.cuda
    with bench.open() as engine:
        home, labels = primary(cuda), np.zeros((1, *SHAPE), np.uint8)
        calls: list[tuple[str, dict[str, Any]]] = [
            (r"gives \['labels', 'logits'\], not \['masks'\]", {"out": {"masks": None}}),
            ("of out must be an array on the GPU, not ndarray", {"out": {"labels": labels}}),
            ("multiple of 256 bytes", {"out": {"labels": Interface(cuda, labels, home, 64)}}),
            ("read-only", {"out": {"labels": Interface(cuda, labels, home, data=(1, True))}}),
            ("the stream is of another CUDA context", {"stream": cuda.own_stream(home + 1)}),
            ("str is no CUDA stream", {"stream": "fast"}),
            ("object is no CUDA stream", {"stream": object()}),
        ]
        for message, more in calls:
            with pytest.raises(InputError, match=message):
                engine.run_device({"frame": frame()}, **more)
            for array in more.get("out", {}).values():
                if isinstance(array, Interface):
                    array.free()
        del cuda.streams[calls[4][1]["stream"]]


def test_a_closed_engine_says_so(bench: Bench) -> None:
    engine = bench.open()
    engine.close()
    engine.close()
    with pytest.raises(InputError, match="this engine is closed: open the artifact again"):
        engine.run({"frame": frame()})


def test_close_waits_for_the_frames_that_run(bench: Bench) -> None:
    engine = bench.open(threads=1)
    bench.trt.barrier = threading.Barrier(2)
    got: list[Any] = []

    def work() -> None:
        got.append(engine.run({"frame": frame(1)}))

    calls = [threading.Thread(target=work), threading.Thread(target=work)]  # the second waits for the one lane
    for thread in calls:
        thread.start()
    while engine.health().running < 2 or not bench.cuda.calls["cuMemcpyHtoDAsync"]:
        pass
    closing = threading.Thread(target=engine.close)
    closing.start()
    while engine.health().state != "closed":
        pass
    with pytest.raises(InputError, match="this engine is closed"):
        engine.run({"frame": frame(1)})
    assert bench.cuda.alive()
    for _ in calls:
        bench.trt.barrier.wait(10)
    for thread in (*calls, closing):
        thread.join(10)
    assert len(got) == 2 and all(same(outputs, frame(1)) for outputs in got)


def test_an_engine_left_open_is_released_with_the_last_reference(bench: Bench) -> None:
    engine = bench.open()
    engine.run({"frame": frame()})
    del engine
    bench.clean()


def test_wrong_numbers(bench: Bench) -> None:
    with pytest.raises(InputError, match="threads must be at least 1, not 0"):
        bench.open(0)
    with pytest.raises(InputError, match="there is no GPU 2 here, only 2 counted from 0"):
        bench.open(device=2)


def test_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cuda = Cuda(())
    bench = install(monkeypatch, tmp_path, cuda, TensorRT(cuda))
    with pytest.raises(DeviceError, match=r"no NVIDIA GPU can be used here \(cuInit: CUDA_ERROR_NO_DEVICE\)"):
        bench.open()
    bench.clean()


class Refusal:
    """A function that raises; such as ``cuInit`` of an installed cuda-python where there is no driver."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, *_: Any, **__: Any) -> None:
        raise self._error


@pytest.mark.parametrize("error", [RuntimeError("Failed to dlopen libcuda.so.1\nmore"), ValueError("")])
def test_no_driver(bench: Bench, error: Exception) -> None:
    bench.cuda.cuInit = Refusal(error)  # type: ignore[method-assign, assignment]
    line = "Failed to dlopen libcuda.so.1" if str(error) else "ValueError"
    with pytest.raises(DeviceError, match=rf"no NVIDIA GPU can be used here \(cuInit: {line}\)") as caught:
        bench.open()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ({"compute_capability": "8.7"}, "built for compute capability 8.7, Stand-in has 8.6: build it on this GPU"),
        ({"compute_capability": ["8.7", "8.9"]}, "built for compute capability 8.7 or 8.9, Stand-in has 8.6"),
        ({"tensorrt": "8.6.1"}, "built with TensorRT 8.6.1, here is 10.3.0.26: build it with 10.3.0.26, or install"),
        ({"package": "os"}, "wants package 'os', not one of tensorrt, tensorrt_rtx"),
    ],
)
def test_a_plan_for_another_machine(bench: Bench, device: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        bench.open(built=device)
    assert not bench.cuda.calls["cuDevicePrimaryCtxRetain"]  # before anything was touched


@pytest.mark.parametrize(
    "device",
    [
        {"compute_capability": "8.7", "hardware_compatible": True},
        {"compute_capability": ["8.6", "8.9"]},
        {"compute_capability": None, "tensorrt": None},
        {"tensorrt": "10.3"},
        {"tensorrt": "10.3.0.9"},
        {"tensorrt": "8.6.1", "version_compatible": True},
    ],
)
def test_what_may_fit_is_left_to_tensorrt(bench: Bench, device: dict[str, Any]) -> None:
    with bench.open(built=device) as engine:
        assert same(engine.run({"frame": frame()}), frame())
    assert bench.trt.host_code_allowed is device.get("version_compatible", False)


def test_a_plan_for_a_dla_core(bench: Bench) -> None:
    bench.open(built={"dla_core": 1}).close()
    assert bench.trt.dla_core == 1


def test_a_manifest_that_says_nothing_of_the_device(bench: Bench) -> None:
    runtime = importlib.import_module(MODULE).Runtime(bench.folder, replace(manifest(), device=None), None)
    assert same(runtime.run({"frame": frame()}), frame())
    runtime.close()


def test_plans_that_tensorrt_refuses(bench: Bench) -> None:
    bench.trt.refuses = {"deserialize_cuda_engine"}
    with pytest.raises(ArtifactError, match=r"does not take model.plan: expecting .* 10.3.0.26 got 8.6.1.6; build it"):
        bench.open()
    bench.trt.refuses = set()
    for validity, line in (
        (("INVALID", 3), "VERSION_MISMATCH, UNSUPPORTED_CC"),
        (("INVALID", 0), "it gives no reason"),
    ):
        bench.trt.validity = validity
        with pytest.raises(ArtifactError, match=f"model.plan is not for this machine: {line}; build it here"):
            bench.open()
    bench.trt.validity = "SUBOPTIMAL", 0
    bench.open().close()
    (bench.folder / "model.plan").unlink()
    with pytest.raises(ArtifactError, match=r"model.plan cannot be read .* build the artifact again"):
        bench.open()


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ({"frame": ("INPUT", "UINT8", (2, *SHAPE, 3))}, r"'frame' is input uint8 \[2, 4, 6, 3\] in model.plan and"),
        ({"labels": ("OUTPUT", "INT32", (1, *SHAPE))}, r"'labels' is output int32 \[1, 4, 6\] in model.plan and"),
        ({"boxes": ("OUTPUT", "HALF", (1, 4))}, r"'boxes' is output float16 \[1, 4\] in model.plan and absent in man"),
    ],
)
def test_a_plan_of_other_tensors(bench: Bench, tensor: dict[str, Any], message: str) -> None:
    write_plan(bench.folder, **tensor)
    with pytest.raises(ArtifactError, match=message):
        bench.open()


def test_missing_packages(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    line = r"needs TensorRT 10.3.0 for Python \(.*JetPack.*tensorrt==10.3.0, .*from NVIDIA\), and cuda-python: pip"
    with pytest.raises(MissingExtra, match=line + r" install 'edgeseg\[tensorrt\]'"):
        bench.open()
    with pytest.raises(MissingExtra, match=r"TensorRT for RTX \(.*pip install tensorrt-rtx-cu12\)"):
        bench.open(built={"package": "tensorrt_rtx", "tensorrt": None})
    for name in ("cuda", "cuda.bindings", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, MODULE)
    with pytest.raises(MissingExtra, match=r"needs cuda-python: pip install 'edgeseg\[tensorrt\]'"):
        importlib.import_module(MODULE)


def test_the_older_form_of_cuda_python(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("cuda")
    package.cuda = bench.cuda  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda", package)
    for name in ("cuda.bindings", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, MODULE)
    with bench.open() as engine:
        assert same(engine.run({"frame": frame()}), frame())


def test_options_and_arrays_of_other_targets(tmp_path: Path) -> None:
    from edgeseg.runtimes._engine import _runtime

    described = replace(manifest(), target="onnxruntime")
    with pytest.raises(InputError, match="target onnxruntime has no option cuda_graph"):
        _runtime(tmp_path, described, None, cuda_graph=True)
    engine = Engine(described, SimpleNamespace(run=None, close=lambda: None))
    with pytest.raises(InputError, match="target onnxruntime has no arrays on a device: use run"):
        engine.run_device({"frame": frame()})
    with pytest.raises(InputError, match="'frame' must be a NumPy array for this target, not SimpleNamespace"):
        engine.run({"frame": SimpleNamespace(shape=(1, *SHAPE, 3), dtype="torch.uint8")})
