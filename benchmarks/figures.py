"""What is said of many frame times: percentiles, how sure they are, jitter, histogram.

Percentiles are nearest-rank, as in OpenVINO's benchmark_app and MLPerf's LoadGen: each was really seen.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeseg.benchmarks.clock import Durations

PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99, "p999": 0.999}
CONFIDENCE = 0.99
P99_FRAMES = 662  # the fewest of which ``bound`` tells a 99th percentile
BINS = 40


def figures(durations: Durations) -> dict[str, Any]:
    """``latency_ms``, ``fps`` and ``throughput_fps`` of frame times in ns, in the order taken."""
    ms = durations / 1e6
    latency = percentiles(durations)
    return {"latency_ms": latency, "fps": 1000 / latency["p50"], "throughput_fps": 1000 / float(ms.mean())}


def percentiles(durations: Durations) -> dict[str, Any]:
    """In ms: ``p50`` … ``p999``, mean, least and greatest, and n.

    ``jitter`` is the mean step from one frame to the next (as RFC 3550 has it, unsmoothed). ``at_most`` holds, for each
    of p90, p99 and p999, what that percentile of the endless run stays under with 99 % confidence; None where there are
    too few frames to say."""
    ms = durations / 1e6
    found: dict[str, Any] = {
        name: float(np.percentile(ms, 100 * share, method="inverted_cdf")) for name, share in PERCENTILES.items()
    }
    found |= {"mean": float(ms.mean()), "min": float(ms.min()), "max": float(ms.max()), "n": len(ms)}
    found["jitter"] = float(np.abs(np.diff(ms)).mean()) if len(ms) > 1 else 0.0
    found["at_most"] = {name: bound(durations, PERCENTILES[name]) for name in ("p90", "p99", "p999")}
    return found


def bound(durations: Durations, share: float) -> float | None:
    """The frame time in ms that the percentile ``share`` does not exceed, with 99 % confidence.

    MLPerf's early stopping (mlcommons/inference_policies, inference_rules.adoc): of n frames the t slowest may be set
    aside, t the most for which n frames would show no more than t over the percentile with a chance of 1 % at most. One
    must be set aside, so a 90th percentile takes 64 frames and a 99th 662.
    """
    aside = _set_aside(len(durations), share)
    return None if aside < 1 else float(np.sort(durations)[-aside] / 1e6)


def _set_aside(n: int, share: float) -> int:
    """The most t with P(Binomial(n, 1 - share) ≤ t) ≤ 1 %, or -1."""
    over, total, t = 1 - share, 0.0, -1
    while t < n:
        k = t + 1
        log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        total += math.exp(log + k * math.log(over) + (n - k) * math.log(share))
        if total > 1 - CONFIDENCE:
            return t
        t = k
    return t


def histogram(durations: Durations) -> dict[str, list[float]]:
    """``edges_ms`` and ``counts`` of equal bins from the least to p99.9; the last counts what lies beyond too."""
    ms = durations / 1e6
    low, high = float(ms.min()), float(np.percentile(ms, 99.9, method="inverted_cdf"))
    edges = np.linspace(low, max(high, low * 1.001), BINS + 1)
    counts, _ = np.histogram(np.minimum(ms, edges[-1]), edges)
    return {"edges_ms": [float(e) for e in edges], "counts": [int(c) for c in counts]}
