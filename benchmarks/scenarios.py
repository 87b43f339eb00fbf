"""MLPerf's other scenarios: multi-stream (the time of eight frames that come together) and offline (frames a second,
all at hand). Single-stream is ``latency.measure``'s own.

Both keep the whole machine at work: OpenVINO is opened for throughput, with the streams it chooses; the others as one
engine of one thread for each core. Which it was is said. Document: mlcommons/inference_policies, inference_rules.adoc.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgeseg.artifact import load
from edgeseg.benchmarks import validity
from edgeseg.benchmarks.clock import Durations, sample, warm_up
from edgeseg.benchmarks.figures import percentiles
from edgeseg.runtimes import Engine, open_artifact

MULTI, OFFLINE = "multi-stream", "offline"
NAMES = ("single-stream", MULTI, OFFLINE)
QUERY = 8  # frames of a multi-stream query
Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Streams:
    """Engines to call at once, one caller each; ``how`` says what they are."""

    engines: tuple[Engine, ...]
    how: str


@contextmanager
def all_streams(artifact: Path, threads: int | None) -> Iterator[Streams]:
    """The artifact opened to keep ``threads`` cores (None: all usable) at work."""
    cores, target = threads or len(validity.cores()), load(artifact).manifest.target
    options = inspect.signature(import_module(f"edgeseg.runtimes.{target}").Runtime).parameters
    with ExitStack() as stack:
        if "throughput" in options:
            engine = stack.enter_context(open_artifact(artifact, selftest=False, threads=threads, throughput=True))
            yield Streams((engine,) * engine.streams, f"one engine, {engine.streams} streams")
            return
        many = [stack.enter_context(open_artifact(artifact, selftest=False, threads=1)) for _ in range(cores)]
        yield Streams(tuple(many), f"{cores} engines of one thread")


def run(name: str, artifact: Path, feeds: Feeds, seconds: float, least: int, threads: int | None) -> dict[str, Any]:
    """The figures of the scenario ``name`` on one frame, over and over, for ``seconds`` and at least ``least`` queries
    (frames, where offline): ``latency_ms`` of a query (multi-stream), ``throughput_fps``, ``streams``, ``how``."""
    with all_streams(artifact, threads) as streams, ThreadPoolExecutor(len(streams.engines)) as pool:
        found = {"streams": len(streams.engines), "how": streams.how}
        if name == OFFLINE:
            return {**found, **_offline(streams, pool, feeds, seconds, least)}
        durations = _multi(streams, pool, feeds, seconds, least)
        rate = QUERY * 1e9 / float(durations.mean())
        return {**found, "frames_a_query": QUERY, "latency_ms": percentiles(durations), "throughput_fps": rate}


def _multi(streams: Streams, pool: ThreadPoolExecutor, feeds: Feeds, seconds: float, least: int) -> Durations:
    engines = [streams.engines[i % len(streams.engines)] for i in range(QUERY)]

    def query() -> None:
        for _ in pool.map(lambda engine: engine.run(feeds), engines):
            pass

    warm_up(query)
    return sample(query, seconds, least)


def _offline(streams: Streams, pool: ThreadPoolExecutor, feeds: Feeds, seconds: float, least: int) -> dict[str, Any]:
    """Each stream takes frame after frame; the clock stops with the last answer."""
    each = -(-least // len(streams.engines))

    def work(engine: Engine, end: float, least: int) -> int:
        count = 0
        while count < least or time.perf_counter() < end:
            engine.run(feeds)
            count += 1
        return count

    def together(seconds: float, least: int) -> tuple[int, float]:
        begin = time.perf_counter()
        jobs = [pool.submit(work, engine, begin + seconds, least) for engine in streams.engines]
        frames = sum(job.result() for job in jobs)
        return frames, time.perf_counter() - begin

    warm_up(lambda: together(0.0, 2))
    frames, took = together(seconds, each)
    return {"throughput_fps": frames / took, "frames": frames, "seconds": took}
