"""The line with which NVIDIA's own tool builds a ticket's engine, where a board has no Python packages.

Flags as the sources of each release's trtexec read them (github.com/NVIDIA/TensorRT, samples/common/sampleOptions.cpp):
``--fp16``, ``--int8`` and ``--calib`` until 10.x and gone in 11; ``--buildOnly`` until 8.6, where ``--skipInference``
came; ``--memPoolSize`` since 8.4, in MiB. JetPack's package libnvinfer-bin puts it in /usr/src/tensorrt/bin,
that of 10.16 in /usr/bin (github.com/OE4T/meta-tegra, recipes tensorrt-trtexec-prebuilt).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from edgeseg.ticket import MIB, ONNX, PLAN, TIMING_CACHE, Ticket

SKIP_INFERENCE, MOVED, STRONGLY_TYPED = (8, 6), (10, 16), (11, 0)


def line(ticket: Ticket, precision: str, keep: Sequence[str] = ()) -> str:
    """The command, to be run in the bundle's folder; it writes the plan there. ``keep``: nodes that stay in float32."""
    build_only = "--skipInference" if ticket.generation >= SKIP_INFERENCE else "--buildOnly"
    options = [
        f"--onnx={ONNX}",
        f"--saveEngine={PLAN}",
        f"--memPoolSize=workspace:{ticket.workspace // MIB}",
        f"--timingCacheFile={TIMING_CACHE}",
        build_only,
        *(_precision(ticket, precision) if ticket.generation < STRONGLY_TYPED else []),
        *(["--noTF32"] if precision == "fp32" else []),
    ]
    if ticket.dla_core is not None:
        options += [f"--useDLACore={ticket.dla_core}", "--allowGPUFallback"]
    if keep:
        kept = ",".join(f"{name}:fp32" for name in keep)
        options += ["--precisionConstraints=obey", f"--layerPrecisions={kept}", f"--layerOutputTypes={kept}"]
    tool = "trtexec" if ticket.generation >= MOVED else "/usr/src/tensorrt/bin/trtexec"
    return shlex.join([tool, *options])


def _precision(ticket: Ticket, precision: str) -> list[str]:
    flags = {"fp32": [], "fp16": ["--fp16"], "int8": ["--int8", "--fp16"]}[precision]
    return [*flags, f"--calib={ticket.calibration_cache}"] if ticket.calibration_cache else flags
