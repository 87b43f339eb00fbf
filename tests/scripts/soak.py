"""Engines under use as on a robot: ``python -m tests.scripts.soak ARTIFACT… --seconds 1800``.

Threads run frames of random sizes and encodings on random engines of one process, with random pauses, some with
buffers of their own, some with frames that are none. Every answer is compared with the one that the engine gave before
the threads were started. Prints one JSON document; exit status 1 where an answer was wrong, a thread died, or the
resident set grew by more than 1 MB per 10 000 frames after the warm-up.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.frames import ENCODINGS
from edgeseg.runtimes import Engine, open_artifact

MOST_MB = 1.0  # per 10 000 frames
WARM_UP = 0.25  # of the time
LONGEST_PAUSE_S = 0.02


@dataclass(frozen=True)
class Case:
    """A frame, how it is given, and what the engine says of it alone."""

    engine: Engine
    frame: NDArray[np.uint8]
    encoding: str
    labels: NDArray[np.uint8]


@dataclass
class Count:
    """What all threads have seen."""

    frames: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def total(self) -> int:
        return sum(self.frames.values())


def cases(engine: Engine, count: int, rng: np.random.Generator) -> list[Case]:
    made = []
    height, width = engine.manifest.frame
    for i in range(count):
        encoding = list(ENCODINGS)[i % len(ENCODINGS)]
        size = (height, width) if i % 3 == 0 else tuple(int(n) * 2 for n in rng.integers(16, 161, 2))
        coarse = rng.integers(0, 256, (8, *ENCODINGS[encoding].shape(*size)[1:]), np.uint8)
        rows = ENCODINGS[encoding].shape(*size)[0]
        frame = np.ascontiguousarray(np.resize(coarse, (rows, *coarse.shape[1:])))
        made.append(Case(engine, frame, encoding, engine.segment(frame, encoding=encoding, resize=True).copy()))
    return made


def work(which: list[Case], until: float, seed: int, count: Count) -> None:
    """One thread."""
    rng = random.Random(seed)
    buffers = [np.empty_like(case.labels) for case in which]
    try:
        while time.monotonic() < until:
            number = rng.randrange(len(which))
            case, out = which[number], buffers[number] if rng.random() < 0.5 else None
            if rng.random() < 0.02:
                refuse(case, count)
                continue
            labels = case.engine.segment(case.frame, encoding=case.encoding, resize=True, out=out)
            right = np.array_equal(labels, case.labels) and (out is None or labels is out)
            with count.lock:
                target = case.engine.manifest.target
                count.frames[target] = count.frames.get(target, 0) + 1
                if not right:
                    count.wrong.append(f"{target} {case.encoding} {case.frame.shape}")
            if rng.random() < 0.5:
                time.sleep(rng.random() * LONGEST_PAUSE_S)
    except BaseException as error:
        count.wrong.append(f"a thread died: {error!r}")
        raise


def refuse(case: Case, count: Count) -> None:
    try:
        case.engine.segment(case.frame.astype(np.float32), encoding=case.encoding, resize=True)
    except InputError:
        with count.lock:
            count.refused += 1
    else:
        count.wrong.append("a float32 frame was taken")


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def slope(samples: list[tuple[float, int, float]], seconds: float) -> float:
    """MB per 10 000 frames, least squares over the samples (time, frames, MB) after the warm-up."""
    late = [(frames, mb) for when, frames, mb in samples if when >= WARM_UP * seconds]
    frames, mb = np.array(late, np.float64).T
    return float(np.polyfit(frames / 10_000, mb, 1)[0])


def soak(
    artifacts: list[str], seconds: float, threads: int, kinds: int, watchdog: float | None, engine_threads: int | None
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    engines = [open_artifact(path, threads=engine_threads, watchdog=watchdog, recover=True) for path in artifacts]
    which = [case for engine in engines for case in cases(engine, kinds, rng)]
    count, began = Count(), time.monotonic()
    workers = [
        threading.Thread(target=work, args=(which, began + seconds, seed, count), daemon=True)
        for seed in range(threads)
    ]
    for worker in workers:
        worker.start()
    samples: list[tuple[float, int, float]] = []
    while any(worker.is_alive() for worker in workers) and time.monotonic() < began + seconds + 120:
        samples.append((time.monotonic() - began, count.total, resident_mb()))
        if len(samples) % 60 == 0:
            print(f"{samples[-1][0]:.0f} s, {count.total} frames, {samples[-1][2]:.1f} MB", file=sys.stderr, flush=True)
        time.sleep(min(1.0, seconds / 20))
    took = time.monotonic() - began
    if any(worker.is_alive() for worker in workers):
        count.wrong.append("a thread did not come back")
    health = {engine.manifest.target: engine.health() for engine in engines}
    for engine in engines:
        engine.close()
    return {
        "seconds": round(took, 1),
        "threads": threads,
        "cases": len(which),
        "frames": count.frames,
        "refused": count.refused,
        "wrong": len(count.wrong),
        "examples": count.wrong[:10],
        "errors": sum(h.errors for h in health.values()),
        "resident_mb": [round(mb, 1) for _, _, mb in samples[:: max(1, len(samples) // 15)]],  # over the time
        "mb_per_10000_frames": round(slope(samples, seconds), 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifacts", nargs="+")
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--cases", type=int, default=60, help="frames of each engine")
    parser.add_argument("--engine-threads", type=int, help="threads of each engine")
    parser.add_argument("--watchdog", type=float, help="seconds a frame may take")
    given = parser.parse_args()
    found = soak(given.artifacts, given.seconds, given.threads, given.cases, given.watchdog, given.engine_threads)
    print(json.dumps(found, indent=1))
    return int(found["wrong"] > 0 or found["errors"] > 0 or found["mb_per_10000_frames"] >= MOST_MB)


if __name__ == "__main__":
    sys.exit(main())
