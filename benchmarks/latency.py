"""How fast an engine answers, frame by frame: ``python -m edgeseg.benchmarks.latency ARTIFACT``.

Each artifact is measured in a process of its own, which loads the artifact's runtime and nothing else, so
that one engine's memory and threads do not touch the next one's figures. Frames run back to back as one
stream; the clock is read once between two frames, so a frame's time is the whole call: input binding,
inference, outputs copied out.
Percentiles are nearest-rank, as in OpenVINO's benchmark_app and MLPerf's LoadGen: each was really seen.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import subprocess
import sys
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg import errors
from edgeseg.artifact import GOLDEN, Artifact, load
from edgeseg.benchmarks import validity
from edgeseg.errors import ArtifactError, EdgesegError, InputError
from edgeseg.manifest import Manifest
from edgeseg.progress import Progress, Silent
from edgeseg.runtimes import Engine, open_artifact
from edgeseg.runtimes._selftest import selftest
from edgeseg.runtimes.crf import DenseCrf, refined

LEAST_FRAMES = 30
# Steady: two consecutive windows' medians within 5 %; a window is at least 5 frames and 0.25 s.
WINDOW_S, WINDOW_FRAMES, STEADY, WARM_UP_S = 0.25, 5, 0.05, 5.0
STAGE_S = 0.05

Durations = NDArray[np.int64]
Call = Callable[[], object]


def bench(
    artifact: str | Path,
    *,
    seconds: float = 3.0,
    threads: int | None = None,
    crf: bool = False,
    least: int = LEAST_FRAMES,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure ``artifact`` on its golden frame, in a fresh process.

    Warms up until two consecutive windows' medians lie within 5 %, for at most 5 s; then measures for
    ``seconds`` and at least ``least`` frames. ``threads`` None leaves their number to the target.

    Returns the parts of a run that design §5 names:
        latency_ms: p50, p90, p99 (nearest-rank), mean, and the number of frames n.
        fps: 1000 / p50, the rate of the typical frame.
        throughput_fps: frames over the whole time of one back-to-back stream; spikes count.
        stages_ms: medians of ``preprocess`` (the feed from the frame: contiguity, batch axis), ``infer``
            (p50), ``postprocess`` (labels or boxes out of the outputs; with ``crf`` DeepLab's fully connected CRF).
            Resizing, normalisation and argmax are in the graph.
        peak_memory_mb: growth of the peak resident set from before the artifact was opened, the runtime's
            libraries included; None where the system does not tell. MB are 10⁶ bytes.
        size_mb: the vendor's files.
        validity: the stamp, see edgeseg.benchmarks.validity.

    Raises:
        InputError: seconds or threads not positive, or a CRF without logits to refine.
        ArtifactError, MissingExtra, CheckFailed: as open_artifact; also when the process dies.
    """
    path = Path(artifact)
    with (progress or Silent()).task(f"bench {path.name}"):
        done = subprocess.run(
            command(path, seconds, threads, crf, least), capture_output=True, text=True, env=environment(), check=False
        )
    return answer(path, done)


def command(path: Path, seconds: float, threads: int | None, crf: bool = False, least: int = LEAST_FRAMES) -> list[str]:
    """The command line of ``bench``'s process."""
    chosen = ["--least", str(least), *(["--crf"] if crf else [])]
    chosen += [] if threads is None else ["--threads", str(threads)]
    return [sys.executable, "-m", "edgeseg.benchmarks.latency", str(path), "--seconds", str(seconds), *chosen]


def environment() -> dict[str, str]:
    """This process's environment, with this process's import path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def answer(path: Path, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What the finished process measured; raises the error it met."""
    try:
        # Vendors' libraries may print too; the answer is the last line.
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ArtifactError(f"measuring {path.name} ended with status {done.returncode}: {reason}") from None
    if "error" in found:
        kind: type[EdgesegError] = getattr(errors, found["error"])
        raise kind.__new__(kind, found["message"])
    return found


def measure(
    artifact: Path, seconds: float, threads: int | None, crf: bool = False, least: int = LEAST_FRAMES
) -> dict[str, Any]:
    """What ``bench`` returns, measured in this process; memory counts from here."""
    if not 0 < seconds < math.inf:
        raise InputError(f"seconds must be positive, not {seconds:g}")
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, not {threads}")
    opened = load(artifact)
    manifest, golden = opened.manifest, _feeds(opened)
    resident = memory_mb("VmRSS")
    # The self-test comes last: its golden outputs would count as the engine's memory.
    with open_artifact(artifact, selftest=False, threads=threads) as engine:
        call = partial(engine.run, golden)
        warm = warm_up(call)
        before = validity.snapshot()
        durations = sample(call, seconds, least, 2 * round(seconds * 1e9 / warm.frame_ns))
        after = validity.snapshot()
        peak = memory_mb("VmHWM")
        selftest(engine.run, opened)
        stages = _stages(engine, golden, durations, crf)
    stamp = validity.stamp(before, after, durations, steady=warm.steady, threads=threads, toolchain=manifest.toolchain)
    return {
        **figures(durations),
        "stages_ms": stages,
        "peak_memory_mb": None if peak is None or resident is None else peak - resident,
        "size_mb": _size_mb(manifest),
        "validity": stamp,
    }


def _feeds(opened: Artifact) -> dict[str, NDArray[Any]]:
    golden = opened.golden()
    try:
        return {spec.name: np.ascontiguousarray(golden[spec.name]) for spec in opened.manifest.inputs}
    except KeyError as error:
        raise ArtifactError(f"{opened.path}: golden.npz lacks the input {error}: build the artifact again") from None


def _size_mb(manifest: Manifest) -> float:
    return sum(entry.bytes for name, entry in manifest.files.items() if name != GOLDEN) / 1e6


@dataclass(frozen=True)
class WarmUp:
    """How the warm-up ended: whether ``steady``, and the last window's median time of a frame."""

    steady: bool
    frame_ns: float


def warm_up(call: Call) -> WarmUp:
    """Call until clocks, caches and thread pools have settled, or the cap of time is reached."""
    end = time.perf_counter() + WARM_UP_S
    previous = float(np.median(sample(call, WINDOW_S, WINDOW_FRAMES)))
    while True:
        latest = float(np.median(sample(call, WINDOW_S, WINDOW_FRAMES)))
        steady = abs(latest - previous) <= STEADY * previous
        if steady or time.perf_counter() > end:
            return WarmUp(steady, latest)
        previous = latest


def sample(call: Call, seconds: float, least: int, most: int = 10_000) -> Durations:
    """Times in ns, int64 N, of consecutive calls: for ``seconds``, but no fewer than ``least`` calls and no
    more than the greater of ``least`` and ``most``. The loop allocates nothing and collects no garbage."""
    most = max(least, most)
    stamps = array("q", bytes(8 * (most + 1)))
    clock, count = time.perf_counter_ns, 0
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        stamps[0] = now = clock()
        end = now + round(seconds * 1e9)
        while count < most and (now < end or count < least):
            call()
            now = clock()
            count += 1
            stamps[count] = now
    finally:
        if collecting:
            gc.enable()
    return np.diff(np.frombuffer(stamps, np.int64)[: count + 1])


def figures(durations: Durations) -> dict[str, Any]:
    """``latency_ms``, ``fps`` and ``throughput_fps`` of frame times in ns."""
    ms = durations / 1e6
    p50, p90, p99 = (float(v) for v in np.percentile(ms, [50, 90, 99], method="inverted_cdf"))
    mean = float(ms.mean())
    latency = {"p50": p50, "p90": p90, "p99": p99, "mean": mean, "n": len(ms)}
    return {"latency_ms": latency, "fps": 1000 / p50, "throughput_fps": 1000 / mean}


def _stages(engine: Engine, golden: dict[str, NDArray[Any]], durations: Durations, crf: bool) -> dict[str, float]:
    frame = golden[engine.manifest.inputs[0].name][0]
    outputs = engine.run(golden)
    last = partial(refined, DenseCrf(), frame, outputs) if crf else partial(engine.postprocess, outputs)
    before, after = (
        figures(sample(call, STAGE_S, WINDOW_FRAMES))["latency_ms"]["p50"]
        for call in (partial(_feed, engine.manifest, frame), last)
    )
    return {"preprocess": before, "infer": figures(durations)["latency_ms"]["p50"], "postprocess": after}


def _feed(manifest: Manifest, frame: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {manifest.inputs[0].name: np.ascontiguousarray(frame)[None]}


def memory_mb(field: str) -> float | None:
    """``VmRSS`` or ``VmHWM`` (its peak) of this process, from /proc/self/status (proc(5)); None without it.

    Not getrusage's ru_maxrss: that survives exec, so a child would start at its parent's peak."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    kib = [int(line.split()[1]) for line in lines if line.startswith(f"{field}:")]
    return kib[0] * 1024 / 1e6 if kib else None


def main(arguments: list[str] | None = None) -> int:
    """One artifact; one line of JSON, or ``{"error", "message"}`` and the error's exit status."""
    parser = argparse.ArgumentParser(prog="python -m edgeseg.benchmarks.latency")
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--crf", action="store_true")
    parser.add_argument("--least", type=int, default=LEAST_FRAMES)
    given = parser.parse_args(arguments)
    try:
        print(json.dumps(measure(given.artifact, given.seconds, given.threads, given.crf, given.least)))
    except EdgesegError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
