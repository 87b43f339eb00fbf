"""Our clock against OpenVINO's: ``python -m edgeseg.benchmarks.against_benchmark_app ARTIFACT``.

Both measure the same ``model.xml`` on the same golden frame with the properties that runtimes/openvino.py sets,
synchronously, in processes of their own, turn about so that a drifting machine drifts for both. benchmark_app's
figure is OpenVINO's own request latency; ours is the whole Python call, a little more by nature.
Document: docs.openvino.ai, "Benchmark Tool"; properties go in by ``-load_config``, since its command line takes a
number of threads only without a performance hint.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from edgeseg.artifact import Artifact, load
from edgeseg.benchmarks.latency import bench
from edgeseg.errors import EdgesegError, InputError

BENCHMARK_APP = "from openvino.tools.benchmark.main import main; main()"


def compare(artifact: Path, *, rounds: int = 5, seconds: float = 3.0, threads: int = 2) -> list[tuple[float, float]]:
    """(ours, benchmark_app's) median latency in ms, one pair a round; who goes first alternates.

    Raises:
        InputError: not an OpenVINO artifact, or benchmark_app failed.
    """
    opened = load(artifact)
    if opened.manifest.target != "openvino":
        raise InputError(f"{artifact} is for {opened.manifest.target}: benchmark_app takes OpenVINO artifacts")

    def ours() -> float:
        return float(bench(artifact, seconds=seconds, threads=threads)["latency_ms"]["p50"])

    def theirs() -> float:
        return benchmark_app(opened, seconds, threads)

    pairs = []
    for index in range(rounds):
        if index % 2:
            other = theirs()
            pairs.append((ours(), other))
        else:
            pairs.append((ours(), theirs()))
    return pairs


def benchmark_app(opened: Artifact, seconds: float, threads: int) -> float:
    """benchmark_app's median latency in ms. Raises InputError with its last line where it fails."""
    properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "frame.npy", opened.golden()["frame"])
        (folder / "config.json").write_text(json.dumps({"CPU": properties}), encoding="utf-8")
        command = [sys.executable, "-c", BENCHMARK_APP, "-m", str(opened.path / "model.xml"), "-d", "CPU", "-api", "sync"]
        command += ["-load_config", str(folder / "config.json"), "-i", f"frame:{folder / 'frame.npy'}"]
        command += ["-t", str(max(1, round(seconds))), "-report_type", "no_counters", "-json_stats", "-report_folder", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f"benchmark_app failed: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
        report = json.loads((folder / "benchmark_report.json").read_text(encoding="utf-8"))
        return float(report["execution_results"]["latency (ms)"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m edgeseg.benchmarks.against_benchmark_app")
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    try:
        pairs = compare(given.artifact, rounds=given.rounds, seconds=given.seconds, threads=given.threads)
    except EdgesegError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    for ours, theirs in pairs:
        print(f"ours {ours:9.3f} ms   benchmark_app {theirs:9.3f} ms   ratio {ours / theirs:.3f}")
    print(f"median ratio {median(ours / theirs for ours, theirs in pairs):.3f} of {len(pairs)} rounds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
