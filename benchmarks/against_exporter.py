"""What the rewrites are worth: an artifact against the same network as PyTorch's exporter leaves it.

``python -m edgeseg.benchmarks.against_exporter ARTIFACT``: both with the same ends, compiled by the same target,
timed in turn in one process.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

from edgeseg.artifact import load
from edgeseg.benchmarks.in_turn import in_turn
from edgeseg.benchmarks.parity import network_of
from edgeseg.errors import EdgesegError
from edgeseg.export import _targets
from edgeseg.export.capture import capture
from edgeseg.export.passes import frame_io


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
        print(f"labels agree on {100 * same:.3f} % of the golden frame; first: rewritten, second: as exported")
        print(in_turn((ours.run, feeds), (theirs.run, feeds)))


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except EdgesegError as error:
        sys.exit(f"edgeseg: {error}")
