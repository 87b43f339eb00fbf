"""What memory a calibration takes: ``python -m tests.scripts.calibration_memory NETWORK[:VARIANT] IMAGES [HxW]``.

Street scenes are drawn at a quarter of the area and resized, one after the other, as a build does it; the peak is that
of the whole process (resident, Linux), with PyTorch, the network and the graph in it. One JSON line.
"""

from __future__ import annotations

import json
import resource
import sys
import time

from edgeseg.cli._options import parse_size
from edgeseg.export import BuildRequest
from edgeseg.export._build import _Build
from edgeseg.models import packaged
from edgeseg.progress import Silent


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(network: str, images: int, size: str) -> dict[str, object]:
    name, _, variant = network.partition(":")
    frame = parse_size(size, "size")
    assert frame is not None
    request = BuildRequest(
        name,
        weights=None if name in packaged() and not variant else "random:1",
        variant=variant or None,
        size=frame,
        precisions=("int8",),
        data=f"streets:{images}@{frame[0] // 2}x{frame[1] // 2}:train",
        calib_images=images,
        cache=False,
    )
    builder = _Build(request, Silent())
    graph = builder._graph()
    before, start = peak_mib(), time.perf_counter()
    _, calibration = builder._calibrated(graph)
    return {
        "network": network,
        "size": size,
        "images": calibration.images,
        "tensors": len(calibration.ranges),
        "peak_mib_before": round(before),
        "peak_mib": round(peak_mib()),
        "seconds": round(time.perf_counter() - start, 1),
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "512x1024")))
