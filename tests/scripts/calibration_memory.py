"""What memory a calibration takes: ``python -m tests.scripts.calibration_memory NETWORK[:VARIANT] IMAGES [HxW]``.

Street scenes are drawn at a quarter of the area and resized, one after the other, as a build does it. The peaks are of
the whole process (resident, MiB, Linux), with PyTorch, the network and the graph in it: ``capture_mib`` until
calibration starts, ``calibration_mib`` from there on, the choice of layers that stay in float included. One JSON line.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from edgeseg.cli._options import parse_size
from edgeseg.export import BuildRequest
from edgeseg.export._build import _Build
from edgeseg.models import packaged
from edgeseg.progress import Silent


def peak_mib(*, again: bool = False) -> int:
    """The most memory that was resident so far; ``again`` starts anew from what is."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM:"))
    if again:
        Path("/proc/self/clear_refs").write_text("5")
    return int(line.split()[1]) // 1024


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
    capture, start = peak_mib(again=True), time.perf_counter()
    calibration = builder._with_floats(builder._calibrated(graph)).calibration
    return {
        "network": network,
        "size": size,
        "images": calibration.images,
        "tensors": len(calibration.ranges),
        "capture_mib": capture,
        "calibration_mib": peak_mib(),
        "seconds": round(time.perf_counter() - start, 1),
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "512x1024")))
