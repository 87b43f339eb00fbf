"""How far engines agree with each other on the same frames, whatever either owes to PyTorch.

``python -m edgeseg.benchmarks.between_engines ARTIFACT ARTIFACT… --data SPEC`` prints the share of pixels on which each
two give one label; of detectors, the share of one's sure objects that the other sees too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path

import numpy as np

from edgeseg.benchmarks._detection import matches
from edgeseg.datasets import open_dataset
from edgeseg.errors import EdgesegError, InputError
from edgeseg.images import letterbox_frame, resize_frame
from edgeseg.metrics import agreement
from edgeseg.runtimes import open_artifact


def between(artifacts: Sequence[Path], spec: str) -> dict[tuple[str, str], float]:
    """The mean agreement of each pair of ``artifacts`` (one network, one frame size) over the data, 0 to 1.

    Raises:
        InputError: fewer than two artifacts, or of different tasks or frame sizes.
    """
    dataset = open_dataset(spec)
    with ExitStack() as stack:
        engines = {path.name: stack.enter_context(open_artifact(path)) for path in artifacts}
        manifests = [engine.manifest for engine in engines.values()]
        if len(engines) < 2 or len({(m.model.task, m.frame) for m in manifests}) > 1:
            raise InputError("give two or more artifacts of one task and one frame size, in folders of different names")
        task, size, mean = manifests[0].model.task, manifests[0].frame, manifests[0].preprocess.mean
        sums = {pair: np.zeros(2) for pair in combinations(engines, 2)}
        for i in range(len(dataset)):
            image = dataset[i].frame
            if task == "semantic":
                labels = {name: engine.segment(resize_frame(image, size)) for name, engine in engines.items()}
                for a, b in sums:
                    sums[a, b] += agreement(labels[a], labels[b]), 1
            else:
                frame = letterbox_frame(image, size, mean)[0]
                found = {name: engine.detect(frame) for name, engine in engines.items()}
                for a, b in sums:
                    sums[a, b] += matches(found[a], found[b])[:2]
    return {pair: float(hit / count) if count else 1.0 for pair, (hit, count) in sums.items()}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m edgeseg.benchmarks.between_engines")
    parser.add_argument("artifact", type=Path, nargs="+")
    parser.add_argument("--data", required=True)
    arguments = parser.parse_args()
    try:
        found = between(arguments.artifact, arguments.data)
    except EdgesegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for (a, b), share in found.items():
        print(f"{a} {b} {100 * share:.3f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
