"""How fast an engine answers, frame by frame: ``python -m edgeseg.benchmarks.latency ARTIFACT``.

Each artifact is measured in a process of its own, which loads the artifact's runtime and nothing else, so
that one engine's memory and threads do not touch the next one's figures. Frames run back to back as one
stream; the clock is read once between two frames, so a frame's time is the whole call: input binding,
inference, outputs copied out.
The process that asked watches clocks and temperatures meanwhile, and the power where told to (docs/benchmarks.md).
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg import errors
from edgeseg.artifact import GOLDEN, Artifact, load
from edgeseg.benchmarks import monitor, scenarios, validity
from edgeseg.benchmarks.clock import WINDOW_FRAMES, Call, Durations, sample, warm_up
from edgeseg.benchmarks.figures import figures, histogram, percentiles
from edgeseg.benchmarks.power import Energy, Meter
from edgeseg.errors import ArtifactError, EdgesegError, InputError
from edgeseg.manifest import Manifest
from edgeseg.progress import Progress, Silent
from edgeseg.runtimes import Engine, open_artifact
from edgeseg.runtimes._runtime import Outputs
from edgeseg.runtimes._selftest import selftest
from edgeseg.runtimes.crf import DenseCrf, refined
from edgeseg.selfcheck import environment

LEAST_FRAMES = 30
STAGE_S = 0.05
SINGLE = scenarios.NAMES[0]
WHOLE_S = 1.0  # at most, for frame to answer


def bench(
    artifact: str | Path,
    *,
    seconds: float = 3.0,
    threads: int | None = None,
    crf: bool = False,
    least: int = LEAST_FRAMES,
    also: Sequence[str] = (),
    meter: Meter | None = None,
    idle: Energy | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure ``artifact`` on its golden frame, in a fresh process.

    Warms up until two consecutive windows' medians lie within 5 %, for at most 5 s; then measures for
    ``seconds`` and at least ``least`` frames. ``threads`` None leaves their number to the target. ``also`` names
    MLPerf's other scenarios (scenarios.MULTI, scenarios.OFFLINE), measured after the single stream for as long.

    Returns the parts of a run that design §5 names, and more (docs/benchmarks.md):
        latency_ms: percentiles and n, see edgeseg.benchmarks.figures.
        fps: 1000 / p50, the rate of the typical frame.
        throughput_fps: frames over the whole time of one back-to-back stream; spikes count.
        stages_ms: medians of ``preprocess`` (the feed from the frame: contiguity, batch axis), ``infer``
            (p50), ``postprocess`` (labels or boxes out of the outputs; with ``crf`` DeepLab's fully connected CRF).
            Resizing, normalisation and argmax are in the graph.
        frame_to_answer_ms: percentiles of the three as one call.
        frames_us: each frame's time in µs, in order; histogram: of the same.
        warm_up: ``windows_ms``, the medians it went through, and whether it ended ``steady``.
        cold_start_ms: ``open`` (verify, load the runtime, compile), ``first_answer`` after that, and the ``total``.
        peak_memory_mb, steady_memory_mb: growth of the resident set, at its peak and after the run, from before the
            artifact was opened, the runtime's libraries included; None where the system does not tell. MB: 10⁶ bytes.
        size_mb: the vendor's files.
        scenarios: the figures of each of ``also``.
        energy_mj_per_frame, energy: with a ``meter`` that is recording, over exactly the single stream; less ``idle``
            where given. None where the meter cannot stand by a total; ``energy`` then says why.
        series: clocks and temperatures over the run, see edgeseg.benchmarks.monitor.
        validity: the stamp, see edgeseg.benchmarks.validity.

    Raises:
        InputError: seconds or threads not positive, an unknown scenario, or a CRF without logits to refine.
        ArtifactError, MissingExtra, CheckFailed: as open_artifact; also when the process dies.
    """
    path = Path(artifact)
    if unknown := sorted(set(also) - set(scenarios.NAMES)):
        raise InputError(f"unknown scenario {', '.join(unknown)}: there are {', '.join(scenarios.NAMES)}")
    line = command(path, seconds, threads, crf, least, also)
    with (progress or Silent()).task(f"bench {path.name}"), monitor.Monitor() as watch:
        done = subprocess.run(line, capture_output=True, text=True, env=environment(), check=False)
    run = answer(path, done)
    if meter is not None:
        spent = meter.energy(*run["window"], idle=idle)
        run["energy_mj_per_frame"] = spent.mj_per_frame(run["latency_ms"]["n"], above_idle=idle is not None)
        run["energy"] = spent.json()
    return watched(run, watch.states)


def watched(run: dict[str, Any], states: Sequence[monitor.State]) -> dict[str, Any]:
    """The run with what was seen from outside: its series, and in its stamp what speaks against it."""
    start, stop = run.pop("window")
    stamp = run["validity"]
    found = [*stamp["reasons"], *monitor.reasons(states, start, stop)]
    return {
        **run,
        "series": monitor.series(states, start, stop),
        "validity": {**stamp, "valid": not found, "reasons": found},
    }


def command(
    path: Path,
    seconds: float,
    threads: int | None,
    crf: bool = False,
    least: int = LEAST_FRAMES,
    also: Sequence[str] = (),
) -> list[str]:
    """The command line of ``bench``'s process."""
    chosen = ["--least", str(least), *(["--crf"] if crf else []), *(f"--also={name}" for name in also)]
    chosen += [] if threads is None else ["--threads", str(threads)]
    return [sys.executable, "-m", "edgeseg.benchmarks.latency", str(path), "--seconds", str(seconds), *chosen]


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
    artifact: Path,
    seconds: float,
    threads: int | None,
    crf: bool = False,
    least: int = LEAST_FRAMES,
    also: Sequence[str] = (),
) -> dict[str, Any]:
    """What ``bench`` returns, measured in this process; memory counts from here. In place of ``series`` there is
    ``window``: start and end of the single stream, by time.perf_counter."""
    if not 0 < seconds < math.inf:
        raise InputError(f"seconds must be positive, not {seconds:g}")
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, not {threads}")
    opened = load(artifact)
    manifest, golden = opened.manifest, _feeds(opened)
    resident = memory_mb("VmRSS")
    begin = time.perf_counter()
    # The self-test comes last: its golden outputs would count as the engine's memory.
    with open_artifact(artifact, selftest=False, threads=threads) as engine:
        ready = time.perf_counter()
        call = partial(engine.run, golden)
        engine.postprocess(call())
        first = time.perf_counter()
        warm = warm_up(call)
        before = validity.snapshot()
        durations = sample(call, seconds, least, 2 * round(seconds * 1e9 / warm.frame_ns))
        stop = time.perf_counter()
        after = validity.snapshot()
        steady, peak = memory_mb("VmRSS"), memory_mb("VmHWM")
        selftest(engine.run, opened)
        stages = _stages(engine, golden, durations, crf)
        whole = sample(_whole(engine, golden, crf), min(WHOLE_S, seconds), WINDOW_FRAMES)
    stamp = validity.stamp(before, after, durations, steady=warm.steady, threads=threads, toolchain=manifest.toolchain)
    others = {name: scenarios.run(name, artifact, golden, seconds, least, threads) for name in also if name != SINGLE}
    return {
        **figures(durations),
        "stages_ms": stages,
        "frame_to_answer_ms": percentiles(whole),
        "frames_us": [round(d / 1000, 1) for d in durations.tolist()],
        "histogram": histogram(durations),
        "warm_up": {"steady": warm.steady, "windows_ms": [w / 1e6 for w in warm.windows]},
        "cold_start_ms": {
            "open": 1000 * (ready - begin),
            "first_answer": 1000 * (first - ready),
            "total": 1000 * (first - begin),
        },
        "peak_memory_mb": None if peak is None or resident is None else peak - resident,
        "steady_memory_mb": None if steady is None or resident is None else steady - resident,
        "size_mb": _size_mb(manifest),
        **({"scenarios": others} if others else {}),
        "window": [stop - float(durations.sum()) / 1e9, stop],
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


def _stages(engine: Engine, golden: dict[str, NDArray[Any]], durations: Durations, crf: bool) -> dict[str, float]:
    frame = golden[engine.manifest.inputs[0].name][0]
    last = partial(_answer(engine, frame, crf), engine.run(golden))
    before, after = (
        percentiles(sample(call, STAGE_S, WINDOW_FRAMES))["p50"]
        for call in (partial(_feed, engine.manifest, frame), last)
    )
    return {"preprocess": before, "infer": percentiles(durations)["p50"], "postprocess": after}


def _answer(engine: Engine, frame: NDArray[Any], crf: bool) -> Callable[[Outputs], object]:
    return partial(refined, DenseCrf(), frame) if crf else engine.postprocess


def _whole(engine: Engine, golden: dict[str, NDArray[Any]], crf: bool) -> Call:
    """From the frame to the answer, as one call."""
    frame = golden[engine.manifest.inputs[0].name][0]
    last = _answer(engine, frame, crf)
    return lambda: last(engine.run(_feed(engine.manifest, frame)))


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
    parser.add_argument("--also", action="append", default=[], choices=scenarios.NAMES)
    given = parser.parse_args(arguments)
    try:
        found = measure(given.artifact, given.seconds, given.threads, given.crf, given.least, given.also)
        print(json.dumps(found))
    except EdgesegError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
