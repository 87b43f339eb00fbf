"""How near an engine comes to what this machine can do: GFLOP/s and GB/s against ceilings measured in the same run.

Ceilings: a float32 matrix product (NumPy's BLAS) and a copy of more than the caches hold, each the best of several,
with the threads that NumPy takes (a copy: one). Williams et al., "Roofline", CACM 52(4), 2009.

An engine's operations are twice its multiply-accumulates, at the network's input. Its bytes are the least it must move:
its files once and its input; feature maps that leave the caches come on top, so GB/s is a lower bound and the intensity
an upper one. int8 and fp16 units may exceed a float32 ceiling: a share over 1 says that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeseg.manifest import Manifest

SIDE, COPIED = 512, 128 * 2**20 // 4
EACH_S, LEAST = 1.0, 5


@dataclass(frozen=True)
class Ceilings:
    """What the machine can do: float32 GFLOP/s; GB/s, read and written bytes together."""

    gflops: float
    gb_per_s: float


def ceilings(side: int = SIDE, copied: int = COPIED) -> Ceilings:
    """Measure both, two seconds: many short tries, so that other work spares some."""
    a = np.random.default_rng(0).random((side, side), np.float32)
    out = np.empty_like(a)
    source = np.ones(copied, np.float32)
    target = np.empty_like(source)
    product = _best(lambda: np.matmul(a, a, out=out))
    copy = _best(lambda: np.copyto(target, source))
    return Ceilings(2 * side**3 / product / 1e9, 2 * source.nbytes / copy / 1e9)


def against(run: Mapping[str, Any], manifest: Manifest, machine: Ceilings) -> dict[str, float]:
    """``gflops`` and ``gb_per_s`` of the run's median frame, the machine's ``ceiling_gflops`` and ``ceiling_gb_per_s``,
    ``flops_per_byte``, and ``share``: of the lower of the two ceilings at that intensity."""
    seconds = run["latency_ms"]["p50"] / 1000
    moved = (run["size_mb"] * 1e6 + sum(_bytes(spec.shape, spec.dtype) for spec in manifest.inputs)) / 1e9
    done = 2 * manifest.model.gmacs
    roof = min(machine.gflops, done / moved * machine.gb_per_s)
    return {
        "gflops": done / seconds,
        "gb_per_s": moved / seconds,
        "ceiling_gflops": machine.gflops,
        "ceiling_gb_per_s": machine.gb_per_s,
        "flops_per_byte": done / moved,
        "share": done / seconds / roof,
    }


def _bytes(shape: tuple[int, ...], dtype: str) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def _best(call: Callable[[], object]) -> float:
    call()
    times: list[float] = []
    end = time.perf_counter() + EACH_S
    while len(times) < LEAST or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
