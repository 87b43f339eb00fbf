"""What the rewrites are worth: an artifact against the same network as PyTorch's exporter leaves it.

``python -m edgeseg.benchmarks.against_exporter ARTIFACT``: both with the same ends, compiled by the same target,
timed in turn in one process.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from edgeseg.artifact import load
from edgeseg.benchmarks.parity import network_of
from edgeseg.export import _targets
from edgeseg.export.capture import capture
from edgeseg.export.passes import frame_io

ROUNDS, RUNS = 7, 10


def main(path: str) -> None:
    artifact = load(path)
    manifest, feeds = artifact.manifest, {"frame": artifact.golden()["frame"]}
    plain = capture(network_of(manifest).module, manifest.preprocess.size, whole_unpool=False)
    frame_io.apply(plain, manifest.preprocess, manifest.frame, "labels")
    runtime = importlib.import_module(f"edgeseg.runtimes.{manifest.target}").Runtime
    with tempfile.TemporaryDirectory() as folder:
        _targets.load(manifest.target, "fp32").compile(plain, "fp32", Path(folder))
        ours, theirs = runtime(artifact.path, manifest, None), runtime(Path(folder), manifest, None)
        same = (ours.run(feeds)["labels"] == theirs.run(feeds)["labels"]).mean()
        rounds = [(_milliseconds(ours.run, feeds), _milliseconds(theirs.run, feeds)) for _ in range(ROUNDS)]
    ratios = [b / a for a, b in rounds]
    print(f"labels agree on {100 * same:.3f} % of the golden frame")
    print(
        f"rewritten {median(a for a, _ in rounds):.1f} ms, as exported {median(b for _, b in rounds):.1f} ms (medians)"
    )
    print(f"as exported / rewritten: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {ROUNDS} rounds)")


def _milliseconds(run: Callable[[dict[str, np.ndarray]], object], feeds: dict[str, np.ndarray]) -> float:
    times = []
    for i in range(RUNS + 2):
        start = time.perf_counter()
        run(feeds)
        if i > 1:  # the first two warm caches up
            times.append(1000 * (time.perf_counter() - start))
    return median(times)


if __name__ == "__main__":
    main(sys.argv[1])
