"""A runtime on a robot: many threads, streams, the caller's own memory, failures and what follows them. Real engines of
a small ENet; where a test needs one that hangs or fails, a real runtime is wrapped by what hangs or fails at will."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg import artifact
from edgeseg.errors import ArtifactError, CheckFailed, DeviceError, InputError
from edgeseg.export import BuildRequest, build
from edgeseg.runtimes import Engine, open_artifact
from edgeseg.runtimes._engine import _runtime
from edgeseg.runtimes._runtime import Feeds, Outputs
from tests.scripts import fuzz, soak

SIZE = (96, 128)
TARGETS = ("openvino", "tflite", "onnxruntime")
RNG = np.random.default_rng(9)
FRAMES = [RNG.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(12)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("artifacts")
    request = BuildRequest("enet", size=SIZE, frame=SIZE, targets=TARGETS, precisions=("fp32",), out=out)
    return {path.name.split("-")[2]: path for path in build(request)}


@pytest.fixture(params=TARGETS)
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    with open_artifact(folder) as opened:
        yield opened


def threads() -> set[str]:
    return {t.name for t in threading.enumerate() if t.name.startswith("edgeseg")}


# The caller's memory


def test_out_is_written_and_returned(engine: Engine) -> None:
    want, out = engine.segment(FRAMES[0]), np.zeros(SIZE, np.uint8)
    assert engine.segment(FRAMES[0], out=out) is out and (out == want).all()
    raw = np.zeros((1, *SIZE), np.uint8)
    assert engine.run({"frame": FRAMES[0][None]}, out={"labels": raw})["labels"] is raw and (raw[0] == want).all()
    engine.segment(FRAMES[1])
    assert (out == want).all()  # the engine writes there no more
    large = np.zeros((150, 200), np.uint8)
    frame = FRAMES[0].repeat(2, 0)[:150].repeat(2, 1)[:, :200]
    assert engine.segment(frame, resize=True, out=large) is large
    assert (large == engine.segment(frame, resize=True)).all()


def test_a_wrong_out_names_both_forms(engine: Engine) -> None:
    wrong: Any
    for wrong, message in (
        (np.zeros((9, 9), np.uint8), r"out must be uint8 \[96, 128\], got uint8 \[9, 9\]"),
        (np.zeros(SIZE), r"out must be uint8 \[96, 128\], got float64 \[96, 128\]"),
        (np.zeros((*SIZE, 2), np.uint8)[..., 0], "C-contiguous and writable"),
    ):
        with pytest.raises(InputError, match=message):
            engine.segment(FRAMES[0], out=wrong)
    with pytest.raises(InputError, match=r"the engine gives \['labels'\], not \['masks'\]"):
        engine.run({"frame": FRAMES[0][None]}, out={"masks": np.zeros(SIZE, np.uint8)})


def test_openvino_reads_and_writes_where_the_arrays_lie(folders: dict[str, Path]) -> None:
    with open_artifact(folders["openvino"]) as engine:
        frame, out = FRAMES[0].copy(), np.zeros(SIZE, np.uint8)
        engine.segment(frame, out=out)
        request: Any = engine._life.runtime._requests[0]  # type: ignore[attr-defined]
        assert request.get_tensor("frame").data.ctypes.data == frame.ctypes.data
        assert request.get_tensor("labels").data.ctypes.data == out.ctypes.data
        assert (frame == FRAMES[0]).all()


def test_onnxruntime_reads_and_writes_where_the_arrays_lie(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeseg.runtimes import onnxruntime

    given: list[int] = []
    value = onnxruntime._value

    def watched(array: NDArray[Any]) -> Any:
        made = value(array)
        given.append(made.data_ptr())
        return made

    with open_artifact(folders["onnxruntime"]) as engine:
        monkeypatch.setattr(onnxruntime, "_value", watched)
        frame, out = FRAMES[0].copy(), np.zeros(SIZE, np.uint8)
        engine.segment(frame, out=out)
        assert given == [frame.ctypes.data, out.ctypes.data]
        assert (frame == FRAMES[0]).all()


def test_read_only_and_strided_frames_give_the_same(engine: Engine) -> None:
    want = engine.segment(FRAMES[2])
    fixed = np.frombuffer(FRAMES[2].tobytes(), np.uint8).reshape(*SIZE, 3)
    padded = np.zeros((SIZE[0], SIZE[1] + 8, 3), np.uint8)
    padded[:, : SIZE[1]] = FRAMES[2]
    for frame in (fixed, padded[:, : SIZE[1]], np.asfortranarray(FRAMES[2])):
        assert (engine.segment(frame) == want).all()
    assert (engine.segment(FRAMES[2][..., ::-1], encoding="bgr8") == want).all()


def test_batches_run_frame_by_frame(engine: Engine) -> None:
    want = np.stack([engine.segment(f) for f in FRAMES[:3]])
    assert (engine.segment_batch(np.stack(FRAMES[:3])) == want).all()
    out = np.zeros((3, *SIZE), np.uint8)
    assert engine.segment_batch(FRAMES[:3], out=out) is out and (out == want).all()
    with pytest.raises(InputError, match="frames of one size, got"):
        engine.segment_batch([FRAMES[0], FRAMES[1][:50]], resize=True)


def test_other_sizes_need_to_be_asked_for(engine: Engine) -> None:
    with pytest.raises(InputError, match=r"must be uint8 \[96, 128, 3\], got uint8 \[50, 60, 3\]; resize=True"):
        engine.segment(FRAMES[0][:50, :60])
    assert engine.segment(FRAMES[0][:50, :60], resize=True).shape == (50, 60)


# Streams


def test_a_stream_gives_each_frame_its_answer_in_order(engine: Engine) -> None:
    want = [engine.segment(f) for f in FRAMES]
    with engine.stream(((10 * i, f) for i, f in enumerate(FRAMES)), depth=3) as stream:
        results = list(stream)
    assert [(r.number, r.stamp) for r in results] == [(i, 10 * i) for i in range(len(FRAMES))]
    assert all((r.answer == w).all() and r.frame is f for r, w, f in zip(results, want, FRAMES, strict=True))
    assert stream.dropped == 0 and not threads()


def test_a_full_queue_lets_the_source_wait(folders: dict[str, Path]) -> None:
    asked = 0

    def source() -> Iterator[NDArray[np.uint8]]:
        nonlocal asked
        for frame in FRAMES:
            asked += 1
            yield frame

    with open_artifact(folders["tflite"]) as engine, engine.stream(source(), depth=2) as stream:
        for most in (3, 4):  # two in the queue, one in the hand
            end = time.monotonic() + 10
            while asked < most and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(0.1)
            assert asked == most
            next(stream)
    assert not threads()


def test_latest_frames_win(folders: dict[str, Path]) -> None:
    done = threading.Event()

    def source() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        yield from enumerate(FRAMES)
        done.set()

    with open_artifact(folders["tflite"]) as engine:
        with engine.stream(source(), keep="latest") as stream:
            assert done.wait(5)
            assert [r.stamp for r in stream] == [len(FRAMES) - 1]
        assert stream.dropped == engine.dropped == engine.health().dropped == len(FRAMES) - 1


def test_errors_of_source_and_frame_reach_the_caller(folders: dict[str, Path]) -> None:
    def source() -> Iterator[NDArray[np.uint8]]:
        yield FRAMES[0]
        yield FRAMES[1][:5]
        yield FRAMES[2]
        raise OSError("the camera is gone")

    with open_artifact(folders["tflite"]) as engine:
        stream = engine.stream(source())
        assert next(stream).number == 0
        with pytest.raises(InputError, match="must be uint8"):
            next(stream)
        assert next(stream).number == 2  # the next frame is good again
        with pytest.raises(OSError, match="the camera is gone"):
            next(stream)
        with pytest.raises(StopIteration):
            next(stream)
        for keep, depth in (("some", 1), ("all", 0)):
            with pytest.raises(InputError):
                engine.stream(FRAMES, keep=keep, depth=depth)
    assert not threads()


def test_a_stream_that_is_left_leaves_no_thread(folders: dict[str, Path]) -> None:
    with open_artifact(folders["tflite"]) as engine:
        for result in engine.stream(FRAMES):
            assert result.number == 0
            break
        del result
        gc.collect()
        end = time.monotonic() + 5
        while threads() and time.monotonic() < end:
            time.sleep(0.01)
    assert not threads()


async def camera(count: int, pause: float) -> AsyncIterator[tuple[int, NDArray[np.uint8]]]:
    for i in range(count):
        await asyncio.sleep(pause)
        yield i, FRAMES[i % len(FRAMES)]


def test_async_streams(folders: dict[str, Path]) -> None:
    async def all_of(engine: Engine) -> list[int]:
        async with engine.stream(camera(20, 0), depth=2) as stream:
            return [result.stamp async for result in stream]

    async def latest(engine: Engine) -> tuple[list[int], int]:
        async with engine.stream(camera(60, 0.001), keep="latest") as stream:
            stamps = []
            async for result in stream:
                stamps.append(result.stamp)
                await asyncio.sleep(0.01)
            return stamps, stream.dropped

    async def left(engine: Engine) -> None:
        async with engine.stream(camera(10**6, 0)) as stream:
            async for _ in stream:
                return

    with open_artifact(folders["tflite"]) as engine:
        assert asyncio.run(all_of(engine)) == list(range(20))
        stamps, dropped = asyncio.run(latest(engine))
        assert stamps == sorted(set(stamps)) and stamps[-1] == 59 and dropped == 60 - len(stamps) > 0
        asyncio.run(left(engine))
    end = time.monotonic() + 5
    while threads() and time.monotonic() < end:
        time.sleep(0.01)
    assert not threads()


def test_timings_are_attributes_and_go_to_the_callback(engine: Engine) -> None:
    assert engine.timings is None
    seen: list[Any] = []
    engine.on_frame = seen.append
    engine.segment(FRAMES[0])
    assert seen == [engine.timings] and seen[0].infer > 0 and seen[0].total < 60


# Failures


class Moody:
    """A real runtime that hangs, or fails, when told to."""

    def __init__(self, folder: Path) -> None:
        self.real = _runtime(folder, artifact.load(folder).manifest, None)
        self.gate, self.failure = threading.Event(), None
        self.gate.set()
        self.closed = False

    def run(self, feeds: Feeds, out: Feeds | None = None) -> Outputs:
        assert self.gate.wait(30)
        if self.failure is not None:
            raise self.failure
        return self.real.run(feeds, out)

    def close(self) -> None:
        self.closed = True
        self.real.close()


def test_an_engine_error_is_a_device_error_and_is_recovered_from(folder: Path) -> None:
    moody = Moody(folder)
    engine = Engine(artifact.load(folder).manifest, moody)
    want = engine.segment(FRAMES[0]).copy()
    moody.failure = RuntimeError("the device\nis hot")  # type: ignore[assignment]
    with pytest.raises(DeviceError, match=r"failed on a frame: the device is hot$"):
        engine.segment(FRAMES[0])
    engine.recover(lambda: _runtime(folder, engine.manifest, None))
    assert (engine.segment(FRAMES[0]) == want).all()
    health = engine.health()
    assert (health.state, health.errors, health.reopened, health.frames) == ("ready", 2, 1, 2)
    assert health.last_error is not None and "the device is hot" in health.last_error
    assert moody.closed
    engine.close()
    assert engine.health().state == "closed"


def test_what_does_not_open_again_is_tried_with_a_later_frame(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folders["tflite"]
    monkeypatch.setattr("edgeseg.runtimes._life.PAUSE_S", 0.05)
    moody, manifest, works = Moody(folder), artifact.load(folder).manifest, False
    moody.failure = RuntimeError("gone")  # type: ignore[assignment]

    def reopen() -> Any:
        if not works:
            raise ArtifactError("the disk is gone too")
        return _runtime(folder, manifest, None)

    engine = Engine(manifest, moody)
    engine.recover(reopen)
    with pytest.raises(DeviceError, match="gone; opened again: the disk is gone too"):
        engine.segment(FRAMES[0])
    assert engine.health().state == "failed"
    works = True
    time.sleep(0.1)
    assert engine.segment(FRAMES[0]).shape == SIZE
    assert engine.health().state == "ready"
    engine.close()


def test_the_watchdog_gives_a_stuck_call_up(folder: Path) -> None:
    moody = Moody(folder)
    engine = Engine(artifact.load(folder).manifest, moody, watchdog=0.3)
    want = engine.segment(FRAMES[0]).copy()
    moody.gate.clear()
    out = np.zeros(SIZE, np.uint8)
    with pytest.raises(DeviceError, match=r"did not come back within 0\.3 s"):
        engine.segment(FRAMES[1], out=out)
    health = engine.health()
    assert (health.overdue, health.stuck, health.running) == (1, 1, 1) and health.oldest_s >= 0.3
    engine.recover(lambda: _runtime(folder, engine.manifest, None))
    assert (engine.segment(FRAMES[0], out=out) == want).all() and engine.health().reopened == 1
    assert not moody.closed  # a call is still in it
    moody.gate.set()
    end = time.monotonic() + 5
    while not moody.closed and time.monotonic() < end:
        time.sleep(0.01)
    assert moody.closed and engine.health().stuck == 0
    assert (out == want).all()  # what came late was not written there
    engine.close()
    while threads() and time.monotonic() < end:
        time.sleep(0.01)
    assert not threads()


def test_signals_are_handled_after_an_engine_was_closed_by_another_thread(folder: Path) -> None:
    """OpenVINO's plugin, if destroyed there, left a stack for signals that was no more."""
    code = (
        "import os, signal, sys, threading; from edgeseg.runtimes import open_artifact;"
        "engine = open_artifact(sys.argv[1]);"
        "closer = threading.Thread(target=engine.close); closer.start(); closer.join(); del engine, closer;"
        "signal.signal(signal.SIGUSR1, lambda *_: print('handled')); os.kill(os.getpid(), signal.SIGUSR1)"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_health_shows_a_call_that_hangs(folders: dict[str, Path]) -> None:
    moody = Moody(folders["tflite"])
    engine = Engine(artifact.load(folders["tflite"]).manifest, moody)
    moody.gate.clear()
    worker = threading.Thread(target=engine.segment, args=(FRAMES[0],))
    worker.start()
    end = time.monotonic() + 10
    while not engine.health().running and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.2)
    assert engine.health().running == 1 and engine.health().oldest_s > 0.1
    moody.gate.set()
    worker.join()
    assert (engine.health().running, engine.health().oldest_s) == (0, 0.0)
    engine.close()


def test_a_closed_engine_says_so(engine: Engine) -> None:
    engine.close()
    engine.close()
    with pytest.raises(InputError, match="is closed: open the artifact again"):
        engine.segment(FRAMES[0])


def test_opening_with_all_of_it(folder: Path) -> None:
    with open_artifact(folder, watchdog=30, recover=True, trial=True) as engine, open_artifact(folder) as plain:
        assert (engine.segment(FRAMES[0]) == plain.segment(FRAMES[0])).all()
    with pytest.raises(InputError, match="watchdog must be a positive number"):
        open_artifact(folder, watchdog=0)


# Long and hostile


@pytest.mark.slow
def test_soak(folders: dict[str, Path]) -> None:
    found = soak.soak([str(path) for path in folders.values()], 20, 8, 21, None, None)
    assert (found["wrong"], found["errors"], found["examples"]) == (0, 0, [])
    assert set(found["frames"]) == set(TARGETS) and found["refused"] > 0


@pytest.mark.slow
def test_malformed_frames_manifests_and_files(folders: dict[str, Path]) -> None:
    found = fuzz.fuzz(folders["tflite"], 900, seed=7)
    assert found["frame: InputError"] > 200 and found["files: ArtifactError"] > 200
    assert found["manifest: ArtifactError"] > 200


def test_swapped_files_with_fitting_hashes_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    """The model of another frame size, its hash in the manifest: the runtime compares both ends."""
    import json
    import shutil

    request = BuildRequest(
        "enet", size=(64, 96), frame=(64, 96), targets=("tflite",), precisions=("fp32",), out=tmp_path / "other"
    )
    (other,) = build(request)
    mixed = tmp_path / "mixed"
    shutil.copytree(folders["tflite"], mixed)
    shutil.copy(other / "model.tflite", mixed / "model.tflite")
    document = json.loads((mixed / "manifest.json").read_text())
    document["files"]["model.tflite"] = json.loads((other / "manifest.json").read_text())["files"]["model.tflite"]
    (mixed / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(
        ArtifactError, match=r"'frame' is uint8 \[1, 96, 128, 3\], TFLite says that it is uint8 \[1, 64"
    ):
        open_artifact(mixed)
    with pytest.raises(CheckFailed, match="do not belong together"):
        open_artifact(mixed, trial=True)


def examples(page: str) -> list[str]:
    """The Python examples of a page that open an artifact."""
    text = (Path(__file__).parents[1] / page).read_text(encoding="utf-8")
    return [block.partition("```")[0] for block in text.split("```python\n")[1:] if "open_artifact(" in block]


@pytest.mark.parametrize("page", ["README.md", "docs/runtime.md"])
def test_the_embedding_example_runs(page: str, folders: dict[str, Path]) -> None:
    """As it is printed, but for where the artifact lies and what the camera sees."""
    (code,) = examples(page)
    path = "build/enet-360x480-openvino-int8"
    assert path in code
    planned: list[Any] = []
    names: dict[str, Any] = {
        "frame": FRAMES[0],
        "image": FRAMES[1][:50],
        "camera": lambda: enumerate(FRAMES[:1]),
        "plan": lambda stamp, labels: planned.append((stamp, labels)),
    }
    exec(code.replace(path, str(folders["openvino"])), names)
    assert names["labels"].dtype == np.uint8 and (len(planned) == 1) == (page == "docs/runtime.md")


@pytest.mark.parametrize("watchdog", [(), ("5",)])
def test_ctrl_c_leaves_no_call_behind_that_closing_would_wait_for(watchdog: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "tests.scripts.interrupted_calls", "2000", *watchdog]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    left, closing_s = map(float, done.stdout.split())
    assert left == 0 and closing_s < 5
