"""What the harness costs: ``python -m edgeseg.benchmarks.against_bare_loop ARTIFACT…``.

Our clock around ``Engine.run`` against a loop of a few lines on the vendor's own call, on the same compiled network, so
that nothing but the harness differs. The two take turns of 25 frames in one process, who begins alternates, and the
medians of all turns are compared; the interval is a bootstrap over rounds.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.artifact import load
from edgeseg.benchmarks.clock import Durations, sample, warm_up
from edgeseg.errors import EdgesegError, InputError
from edgeseg.runtimes import open_artifact

TURN, ROUNDS, DRAWS = 25, 60, 2000
Feeds = Mapping[str, NDArray[Any]]
Bare = Callable[[Any, Feeds], Callable[[], object]]


def _openvino(runtime: Any, feeds: Feeds) -> Callable[[], object]:
    request, given = runtime._model.create_infer_request(), dict(feeds)
    return lambda: request.infer(given, share_inputs=True)


def _onnxruntime(runtime: Any, feeds: Feeds) -> Callable[[], object]:
    session, given = runtime._session, dict(feeds)
    return lambda: session.run(None, given)


def _tflite(runtime: Any, feeds: Feeds) -> Callable[[], object]:
    interpreter = runtime._interpreter
    inputs = [(d["index"], feeds[d["name"]]) for d in interpreter.get_input_details()]
    outputs = [d["index"] for d in interpreter.get_output_details()]

    def call() -> object:
        for index, values in inputs:
            interpreter.set_tensor(index, values)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return call


BARE: dict[str, Bare] = {"openvino": _openvino, "onnxruntime": _onnxruntime, "tflite": _tflite}


def bare_loop(call: Callable[[], object], frames: int) -> Durations:
    """Times in ns, as one would take them by hand."""
    gc.collect()
    times = []
    for _ in range(frames):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return np.array(times, np.int64)


def overhead(path: Path, threads: int | None, rounds: int = ROUNDS) -> tuple[float, float, float, float, float]:
    """Medians in ms, bare and ours; the ratio and the ends of its 95 % interval.

    Raises:
        InputError: a target without a bare loop here.
    """
    opened = load(path)
    target = opened.manifest.target
    if target not in BARE:
        raise InputError(f"no bare loop for {target}: there are {', '.join(BARE)}")
    golden = opened.golden()
    feeds = {spec.name: np.ascontiguousarray(golden[spec.name]) for spec in opened.manifest.inputs}
    with open_artifact(path, threads=threads) as engine:
        theirs = BARE[target](engine._life.runtime, feeds)
        ours = lambda: engine.run(feeds)  # noqa: E731
        warm_up(theirs)
        warm_up(ours)
        turns: tuple[list[Durations], list[Durations]] = ([], [])
        for index in range(rounds):
            for which in (0, 1) if index % 2 == 0 else (1, 0):
                turns[which].append(bare_loop(theirs, TURN) if which == 0 else sample(ours, 1e-9, TURN, TURN))
    return _summary(np.stack(turns[0]), np.stack(turns[1]))


def _summary(bare: Durations, ours: Durations) -> tuple[float, float, float, float, float]:
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(bare), (DRAWS, len(bare)))
    ratios = [float(np.median(ours[d]) / np.median(bare[d])) for d in draws]
    low, high = np.percentile(ratios, [2.5, 97.5])
    first, second = float(np.median(bare)), float(np.median(ours))
    return first / 1e6, second / 1e6, second / first, float(low), float(high)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m edgeseg.benchmarks.against_bare_loop")
    parser.add_argument("artifact", type=Path, nargs="+")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    print("| artifact | bare ms | ours ms | ratio | 95 % from … to |\n|---|---|---|---|---|")
    try:
        for path in given.artifact:
            bare, ours, ratio, low, high = overhead(path, given.threads, given.rounds)
            print(f"| {path.name} | {bare:.4f} | {ours:.4f} | {ratio:.4f} | {low:.4f} … {high:.4f} |", flush=True)
    except EdgesegError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
