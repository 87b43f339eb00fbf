"""Our clock against OpenVINO's: ``python -m edgeseg.benchmarks.against_benchmark_app ARTIFACT``.

Both measure the same ``model.xml`` on the same golden frame with the properties that runtimes/openvino.py
sets, synchronously, each in a process of its own. The two take turns of half a second, the other one stopped
meanwhile (SIGSTOP), so that whatever else the machine does happens to both, and stops cut as many frames of
each. benchmark_app's figure is OpenVINO's own request latency; ours is the whole Python call, a little more
by nature. Document: docs.openvino.ai, "Benchmark Tool". Properties go in by ``-load_config``, since its
command line takes a number of threads only without a performance hint.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from edgeseg.artifact import Artifact, load
from edgeseg.benchmarks import latency
from edgeseg.errors import EdgesegError, InputError
from edgeseg.selfcheck import environment

BENCHMARK_APP = "from openvino.tools.benchmark.main import main; main()"
TURN_S = 0.5

Done = subprocess.CompletedProcess[str]


def compare(artifact: Path, *, rounds: int = 3, seconds: float = 20.0, threads: int = 2) -> list[tuple[float, float]]:
    """(ours, benchmark_app's) median latency in ms, one pair a round of ``seconds`` for both together.

    Raises:
        InputError: not an OpenVINO artifact, or benchmark_app failed.
    """
    opened = load(artifact)
    if opened.manifest.target != "openvino":
        raise InputError(f"{artifact} is for {opened.manifest.target}: benchmark_app takes OpenVINO artifacts")
    return [_round(opened, index, seconds, threads) for index in range(rounds)]


def _round(opened: Artifact, index: int, seconds: float, threads: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = [
            latency.command(opened.path, seconds, threads),
            _benchmark_app(opened, folder, seconds, threads),
        ]
        # Who starts first alternates.
        ours, theirs = turn_about(commands) if index % 2 == 0 else reversed(turn_about(commands[::-1]))
        if theirs.returncode:
            raise InputError(f"benchmark_app failed: {(theirs.stdout + theirs.stderr).strip().splitlines()[-1]}")
        report = json.loads((folder / "benchmark_report.json").read_text(encoding="utf-8"))
        measured = latency.answer(opened.path, ours)["latency_ms"]["p50"]
        return float(measured), float(report["execution_results"]["latency (ms)"])


def _benchmark_app(opened: Artifact, folder: Path, seconds: float, threads: int) -> list[str]:
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": str(threads),
    }
    frame, config = folder / "frame.npy", folder / "config.json"
    np.save(frame, opened.golden()["frame"])
    config.write_text(json.dumps({"CPU": properties}), encoding="utf-8")
    command = [
        sys.executable,
        "-c",
        BENCHMARK_APP,
        "-m",
        str(opened.path / "model.xml"),
        "-d",
        "CPU",
        "-api",
        "sync",
    ]
    command += ["-load_config", str(config), "-i", f"frame:{frame}", "-t", str(max(1, round(seconds)))]
    return [*command, "-report_type", "no_counters", "-json_stats", "-report_folder", str(folder)]


def turn_about(commands: Sequence[Sequence[str]]) -> list[Done]:
    """Run ``commands`` side by side, one at a time in turns of ``TURN_S`` seconds, to their ends."""
    processes = []
    try:
        for command in commands:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
            )
            process.send_signal(signal.SIGSTOP)
            processes.append(process)
        for process in itertools.cycle(processes):
            if all(p.poll() is not None for p in processes):
                break
            _take_turn(process)
        return [Done(p.args, p.returncode, *p.communicate()) for p in processes]
    finally:
        for process in processes:
            process.kill()


def _take_turn(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGCONT)
    try:
        process.wait(TURN_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGSTOP)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m edgeseg.benchmarks.against_benchmark_app")
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of one round, both together")
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
