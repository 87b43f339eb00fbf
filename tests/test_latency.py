"""The clock: steady before it counts, honest about what disturbed it, and the same as OpenVINO's own."""

from __future__ import annotations

import gc
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeseg.artifact import entries, load, whole_folder, write_golden
from edgeseg.benchmarks import clock, latency, scenarios, validity
from edgeseg.benchmarks.figures import bound, figures, histogram, percentiles
from edgeseg.benchmarks.latency import bench
from edgeseg.errors import ArtifactError, CheckFailed, InputError
from edgeseg.manifest import Manifest, ModelEntry, Weights
from edgeseg.selfcheck import environment
from edgeseg.spec import ClassSpec, Preprocess, TensorSpec

CLASSES = tuple(ClassSpec(f"class {i}", (i, i, i)) for i in range(8))


def network(height: int, width: int, depth: int) -> onnx.ModelProto:
    """frame uint8 1×H×W×3 → labels uint8 1×H×W through ``depth`` 3×3 convolutions of 32 channels."""
    rng = np.random.default_rng(5)
    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["x0"], perm=[0, 3, 1, 2]),
    ]
    weights = []
    channels = [3, *[32] * (depth - 1), len(CLASSES)]
    for i, (a, b) in enumerate(pairwise(channels)):
        kernel = rng.normal(0, 1 / np.sqrt(9 * a), (b, a, 3, 3)).astype(np.float32)
        weights.append(helper.make_tensor(f"w{i}", TensorProto.FLOAT, kernel.shape, kernel.tobytes(), raw=True))
        nodes.append(helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("ArgMax", [f"x{depth}"], ["best"], axis=1, keepdims=0))
    nodes.append(helper.make_node("Cast", ["best"], ["labels"], to=TensorProto.UINT8))
    frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, height, width, 3])
    labels = helper.make_tensor_value_info("labels", TensorProto.UINT8, [1, height, width])
    graph = helper.make_graph(nodes, "network", [frame], [labels], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def write_onnxruntime(model: onnx.ModelProto, folder: Path) -> list[str]:
    onnx.save(model, folder / "model.onnx")
    return ["model.onnx"]


def write_openvino(model: onnx.ModelProto, folder: Path) -> list[str]:
    import openvino as ov

    read = ov.Core().read_model(model.SerializeToString())
    ov.save_model(read, folder / "model.xml", compress_to_fp16=False)
    return ["model.xml", "model.bin"]


Write = Callable[[onnx.ModelProto, Path], list[str]]


def artifact(path: Path, write: Write = write_onnxruntime, size: tuple[int, int] = (48, 64), depth: int = 2) -> Path:
    """An artifact of ``network`` whose golden labels ONNX Runtime gave."""
    ort = pytest.importorskip("onnxruntime", reason="no ONNX Runtime: no artifact to time")
    model = network(*size, depth)
    frame = np.random.default_rng(1).integers(0, 256, (1, *size, 3), np.uint8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    golden = {"frame": frame, "labels": session.run(["labels"], {"frame": frame})[0]}
    target = write.__name__.removeprefix("write_")
    with whole_folder(path) as folder:
        files = [*write(model, folder), write_golden(folder, golden)]
        (folder / "manifest.json").write_text(manifest(target, size, folder, files).to_json(), encoding="utf-8")
    return path


def manifest(target: str, size: tuple[int, int], folder: Path, files: list[str]) -> Manifest:
    entry = ModelEntry("small", "plain", "semantic", 1, 0.1, "none", Weights("random:5", "0" * 64))
    return Manifest(
        model=entry,
        target=target,
        precision="fp32",
        inputs=(TensorSpec("frame", (1, *size, 3), "uint8"),),
        outputs=(TensorSpec("labels", (1, *size), "uint8"),),
        preprocess=Preprocess(size),
        classes=CLASSES,
        ignore_index=None,
        files=entries(folder, files),
        calibration=None,
        toolchain={"numpy": "0.1", "no-such-package": "1.0"},
        device=None,
        onnx_sha256="0" * 64,
        created="2026-01-01T00:00:00+00:00",
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifact(tmp_path_factory.mktemp("artifacts") / "small")


def test_bench_gives_consistent_figures(small: Path) -> None:
    found = bench(small, seconds=0.3, threads=1)
    times = found["latency_ms"]
    assert 0 < times["p50"] <= times["p90"] <= times["p99"]
    assert times["n"] >= latency.LEAST_FRAMES
    assert found["fps"] == pytest.approx(1000 / times["p50"])
    assert found["throughput_fps"] == pytest.approx(1000 / times["mean"])
    assert set(found["stages_ms"]) == {"preprocess", "infer", "postprocess"}
    assert found["stages_ms"]["infer"] == times["p50"]
    assert 0 < found["stages_ms"]["preprocess"] < times["p50"]
    assert found["size_mb"] == (small / "model.onnx").stat().st_size / 1e6
    assert found["peak_memory_mb"] is None or 1 < found["peak_memory_mb"] < 500


def test_bench_stamps_what_it_ran_on(small: Path) -> None:
    stamp = bench(small, seconds=0.1)["validity"]
    assert stamp["valid"] == (stamp["reasons"] == [])
    assert stamp["threads"] is None
    assert stamp["toolchain"]["numpy"] == {"built": "0.1", "installed": np.__version__}
    assert stamp["toolchain"]["no-such-package"] == {"built": "1.0", "installed": None}
    assert stamp["cpu"]["usable_cores"] == len(validity.cores())


def test_the_measuring_process_loads_neither_torch_nor_onnx(small: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgeseg.benchmarks.latency import measure;"
        "measure(Path(sys.argv[1]), 0.05, 1);"
        "print([m for m in ('torch', 'onnx', 'onnx_ir', 'PIL', 'edgeseg.export') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(small)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(("seconds", "threads"), [(0.0, None), (-1.0, 1), (float("nan"), 1), (1.0, 0)])
def test_bad_wishes_are_refused(small: Path, seconds: float, threads: int | None) -> None:
    with pytest.raises(InputError, match=r"must be (positive|at least 1)"):
        bench(small, seconds=seconds, threads=threads)


def test_errors_of_the_process_arrive_as_they_were(small: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"is not an artifact: 'manifest\.json' is missing"):
        bench(tmp_path)
    wrong = artifact(tmp_path / "wrong")
    golden = load(wrong).golden()
    write_golden(wrong, {**golden, "labels": golden["labels"] ^ 1})
    old = load_unverified(wrong)
    (wrong / "manifest.json").write_text(replace(old, files=entries(wrong, list(old.files))).to_json())
    with pytest.raises(CheckFailed, match="golden self-test"):
        bench(wrong, seconds=0.05)


def load_unverified(path: Path) -> Manifest:
    return Manifest.from_json((path / "manifest.json").read_text(encoding="utf-8"))


def test_a_process_that_dies_is_told_with_its_status() -> None:
    done = subprocess.run([sys.executable, "-c", "import os; os.abort()"], capture_output=True, text=True, check=False)
    with pytest.raises(ArtifactError, match=r"measuring it ended with status -6"):
        latency.answer(Path("it"), done)


def test_a_sample_spans_the_time_asked_for_and_frees_the_collector() -> None:
    begin = time.perf_counter_ns()
    found = clock.sample(lambda: time.sleep(0.002), 0.1, 5)
    whole = time.perf_counter_ns() - begin
    assert (found >= 2e6).all()
    assert 0.1e9 <= found.sum() <= whole
    assert gc.isenabled()


def test_a_sample_has_its_least_and_its_most_calls() -> None:
    assert len(clock.sample(lambda: time.sleep(0.001), 1e-6, 7)) == 7
    assert len(clock.sample(int, 10.0, 7, 90)) == 90


def test_a_failing_call_leaves_the_collector_on() -> None:
    with pytest.raises(ZeroDivisionError):
        clock.sample(lambda: 1 // 0, 0.1, 1)
    assert gc.isenabled()


def test_percentiles_are_frames_that_were_seen() -> None:
    durations = np.arange(1, 201, dtype=np.int64) * 1_000_000
    found = figures(np.random.default_rng(0).permutation(durations))
    times, at_most = found["latency_ms"], found["latency_ms"].pop("at_most")
    assert times.pop("jitter") == pytest.approx(200 / 3, rel=0.2)  # of a shuffle
    assert times == {"p50": 100.0, "p90": 180.0, "p95": 190.0, "p99": 198.0, "p999": 200.0, "mean": 100.5,
                     "min": 1.0, "max": 200.0, "n": 200}  # fmt: skip
    assert at_most["p90"] > 180 and at_most["p99"] is None and at_most["p999"] is None
    assert (found["fps"], found["throughput_fps"]) == (10.0, pytest.approx(1000 / 100.5))


@pytest.mark.parametrize(("share", "frames"), [(0.90, 64), (0.95, 130), (0.97, 219), (0.99, 662), (0.999, 6636)])
def test_a_percentile_takes_as_many_frames_as_mlperf_asks(share: float, frames: int) -> None:
    """The table of early stopping in MLPerf's rules: 64, 130, 219, 662; p99.9's is the same rule's."""
    durations = np.arange(1, frames + 1, dtype=np.int64)
    assert bound(durations[:-1], share) is None
    assert bound(durations, share) == frames / 1e6


def test_the_bound_holds_in_99_of_100_runs() -> None:
    rng = np.random.default_rng(7)
    draws = rng.exponential(1e6, (1000, 1000)).astype(np.int64)
    truth = -np.log(1 - 0.9)
    held = sum((bound(row, 0.9) or 0.0) >= truth for row in draws)
    assert 980 <= held < 1000


def test_the_histogram_counts_every_frame() -> None:
    durations = np.concatenate([np.full(5000, 2_000_000), np.array([90_000_000])]).astype(np.int64)
    found = histogram(durations)
    assert sum(found["counts"]) == 5001
    assert found["edges_ms"][0] == 2.0 and found["edges_ms"][-1] < 2.01
    assert percentiles(durations)["max"] == 90.0


def test_the_other_scenarios_are_measured_too(small: Path) -> None:
    found = bench(small, seconds=0.1, threads=1, also=(scenarios.MULTI, scenarios.OFFLINE))["scenarios"]
    multi, offline = found["multi-stream"], found["offline"]
    assert multi["frames_a_query"] == 8 and multi["latency_ms"]["n"] >= latency.LEAST_FRAMES
    assert multi["throughput_fps"] == pytest.approx(8000 / multi["latency_ms"]["mean"])
    assert offline["throughput_fps"] == pytest.approx(offline["frames"] / offline["seconds"])
    assert offline["how"] == "1 engines of one thread" and offline["frames"] >= latency.LEAST_FRAMES
    with pytest.raises(InputError, match="unknown scenario server: there are single-stream, multi-stream, offline"):
        bench(small, also=("server",))


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_openvino_offline_uses_its_own_streams(tmp_path: Path) -> None:
    path = artifact(tmp_path / "ov", write_openvino)
    with scenarios.all_streams(path, None) as streams:
        assert len(streams.engines) == streams.engines[0].streams >= 1
        assert streams.how.startswith("one engine")


def test_cold_start_memory_and_the_whole_way_are_told(small: Path) -> None:
    found = bench(small, seconds=0.2, threads=1)
    cold = found["cold_start_ms"]
    assert (
        cold["total"] == pytest.approx(cold["open"] + cold["first_answer"]) and cold["open"] > cold["first_answer"] > 0
    )
    assert found["frame_to_answer_ms"]["p50"] > 0.8 * found["stages_ms"]["infer"]
    assert len(found["frames_us"]) == found["latency_ms"]["n"] == sum(found["histogram"]["counts"])
    assert len(found["warm_up"]["windows_ms"]) >= 2
    assert found["steady_memory_mb"] is None or found["steady_memory_mb"] <= found["peak_memory_mb"]
    start, stop = found["series"]["window"]
    assert stop - start >= 0.2 and min(found["series"]["seconds"]) < 0 < max(found["series"]["seconds"])


def test_warm_up_waits_until_the_engine_is_steady() -> None:
    """Thirty calls of 40 ms falling to 4 ms, as a clock that rises: the median it ends with is the fast one."""
    calls = 0

    def cold() -> None:
        nonlocal calls
        time.sleep(max(0.004, 0.040 - 0.0012 * calls))
        calls += 1

    warm = clock.warm_up(cold)
    assert calls > 30
    assert warm.frame_ns < 8e6


def test_warm_up_gives_up_on_what_never_settles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "WARM_UP_S", 0.5)
    waits = iter(0.001 * 1.05**i for i in range(10_000))
    warm = clock.warm_up(lambda: time.sleep(next(waits)))
    assert not warm.steady


@pytest.mark.skipif(latency.memory_mb("VmRSS") is None, reason="no /proc/self/status: memory is unknown here")
def test_memory_counts_what_was_touched() -> None:
    before = latency.memory_mb("VmRSS")
    block = np.ones(8_000_000)
    after, peak = latency.memory_mb("VmRSS"), latency.memory_mb("VmHWM")
    del block
    assert before is not None
    assert after is not None
    assert peak is not None
    assert 60 < after - before < 70
    assert peak >= after


def test_main_prints_one_line_of_json(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert latency.main([str(small), "--seconds", "0.05", "--threads", "1"]) == 0
    printed = capsys.readouterr().out.strip().splitlines()
    assert json.loads(printed[-1])["validity"]["threads"] == 1
    assert latency.main([str(small / "none")]) == 2
    assert json.loads(capsys.readouterr().out)["error"] == "ArtifactError"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_medians_agree_with_benchmark_app(tmp_path: Path) -> None:
    """Within 5 %, on one thread, which other work on the machine disturbs least."""
    from edgeseg.benchmarks.against_benchmark_app import compare

    path = artifact(tmp_path / "large", write_openvino, (120, 160), 6)
    pairs = compare(path, rounds=5, seconds=6.0, threads=1)
    assert median(ours / theirs for ours, theirs in pairs) == pytest.approx(1, abs=0.05)
