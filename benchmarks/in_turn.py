"""Two engines side by side: ``python -m edgeseg.benchmarks.in_turn ARTIFACT ARTIFACT`` prints how much longer the
second takes.

They run in turn in one process, so that whatever else the machine does happens to both. A pause goes before
each turn: threads of the other engine that still spin would slow it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.artifact import load
from edgeseg.errors import EdgesegError
from edgeseg.runtimes import open_artifact

ROUNDS, RUNS, WARM_UP = 9, 10, 3
PAUSE_S = 0.3

Call = Callable[[Mapping[str, NDArray[np.uint8]]], Any]
Feeds = Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class InTurn:
    """Medians of each round in milliseconds, of the first engine and of the second."""

    rounds: tuple[tuple[float, float], ...]

    def __str__(self) -> str:
        ratios = sorted(b / a for a, b in self.rounds)
        first, second = (median(r[i] for r in self.rounds) for i in (0, 1))
        return (
            f"first {first:.1f} ms, second {second:.1f} ms (medians)\n"
            f"second / first: {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}, {len(ratios)} rounds)"
        )


def in_turn(first: tuple[Call, Feeds], second: tuple[Call, Feeds], rounds: int = ROUNDS) -> InTurn:
    """Time the two calls with their feeds, ``rounds`` times in turn, warm."""
    return InTurn(tuple((_milliseconds(*first), _milliseconds(*second)) for _ in range(rounds)))


def _milliseconds(call: Call, feeds: Feeds) -> float:
    time.sleep(PAUSE_S)
    times = []
    for i in range(WARM_UP + RUNS):
        start = time.perf_counter()
        call(feeds)
        if i >= WARM_UP:
            times.append(1000 * (time.perf_counter() - start))
    return median(times)


def main(first: str, second: str) -> None:
    feeds = [{"frame": load(path).golden()["frame"]} for path in (first, second)]
    with open_artifact(first) as a, open_artifact(second) as b:
        print(in_turn((a.run, feeds[0]), (b.run, feeds[1])))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except EdgesegError as error:
        sys.exit(f"edgeseg: {error}")
