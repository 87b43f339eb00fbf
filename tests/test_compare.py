"""Comparing two measurements: a planted slowdown is found, none where there is none, unlike runs are refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.benchmarks.compare import compare, ratio, read_runs
from edgeseg.cli import main
from edgeseg.errors import InputError


def run(seed: int, scale: float = 1.0, n: int = 800, **stamp: Any) -> dict[str, Any]:
    """Frames of 5 ms with a slow wave, noise, and one spike in fifty."""
    rng = np.random.default_rng(seed)
    frames = 5000 * scale * (1 + 0.01 * np.sin(np.arange(n) / 40) + rng.exponential(0.02, n))
    frames[rng.random(n) < 0.02] *= 3
    cpu = {"model": "A", "board": None, "usable_cores": 2, "governor": None, "min_mhz": None, "max_mhz": None}
    validity = {"valid": True, "reasons": [], "cpu": cpu, "threads": 2, "clocks_locked": None, "power_mode": None}
    validity |= {"toolchain": {"openvino": {"built": "1", "installed": "1"}}, **stamp}
    identity = {"artifact": "a", "model": "enet", "target": "openvino", "precision": "fp32"}
    return {**identity, "frames_us": frames.tolist(), "validity": validity}


@pytest.mark.parametrize("seed", range(20))
def test_two_runs_of_the_same_show_no_difference(seed: int) -> None:
    (found,) = compare([run(seed)], [run(seed + 100)])
    assert found.verdict == "same" and found.low < found.ratio < found.high


@pytest.mark.parametrize("seed", range(20))
def test_a_tenth_slower_is_said_and_a_tenth_faster_too(seed: int) -> None:
    (found,) = compare([run(seed)], [run(seed + 100, 1.10)])
    assert found.verdict == "slower" and found.ratio == pytest.approx(1.10, abs=0.01)
    (found,) = compare([run(seed, 1.10)], [run(seed + 100)])
    assert found.verdict == "faster"


def test_the_interval_covers_the_truth_for_frames_that_hang_together() -> None:
    """Noise with a memory of some 20 frames: an interval that takes frames for independent would be far too narrow."""
    rng, held = np.random.default_rng(3), 0
    for _ in range(100):
        pair = []
        for _ in range(2):
            noise, level = rng.normal(0, 10, 1500), 0.0
            for i, step in enumerate(noise):
                noise[i] = level = 0.95 * level + step
            pair.append(5000 + noise)
        found = ratio(*pair)
        held += found.low <= 1 <= found.high
    assert held >= 80


def test_what_cannot_be_told_is_unsure() -> None:
    rng = np.random.default_rng(0)
    wild = {**run(0), "frames_us": rng.lognormal(8, 1, 60).tolist()}
    assert compare([wild], [{**wild, "frames_us": rng.lognormal(8, 1, 60).tolist()}])[0].verdict == "unsure"


@pytest.mark.parametrize(("change", "words"), [
    ({"threads": 1}, "threads: 2 and 1"),
    ({"power_mode": "15W"}, "power_mode: None and 15W"),
    ({"clocks_locked": True}, "clocks_locked: None and True"),
    ({"valid": False, "reasons": ["the CPU throttled 3 times"]}, "the second is not valid: the CPU throttled 3 times"),
])  # fmt: skip
def test_unlike_runs_are_refused_unless_told(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        compare([run(0)], [run(1, **change)])
    (found,) = compare([run(0)], [run(1, **change)], unlike=True)
    assert found.verdict == "same" and any(words in reason for reason in found.unlike)


def test_versions_that_differ_are_named() -> None:
    other = run(1, toolchain={"openvino": {"built": "1", "installed": "2"}})
    assert compare([run(0)], [other])[0].versions == ("openvino 1 → 2",)


def test_runs_are_paired_by_what_they_are() -> None:
    fp32, int8 = run(0), {**run(1), "precision": "int8"}
    assert [c.name for c in compare([fp32, int8], [int8, fp32])] == ["enet openvino int8", "enet openvino fp32"]
    with pytest.raises(InputError, match="no engine in common"):
        compare([fp32, int8], [{**fp32, "target": "tflite"}, {**int8, "target": "tflite"}])
    with pytest.raises(InputError, match="has 20 frames, at least 40"):
        compare([run(0, n=20)], [fp32])
    with pytest.raises(InputError, match="tolerance must lie between 0 and 1"):
        compare([fp32], [fp32], tolerance=-1)


def test_the_command_tells_by_its_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = []
    for name, content in (("a", run(0)), ("b", run(1)), ("slow", run(2, 1.1)), ("old", copy.copy(run(0)))):
        if name == "old":
            del content["frames_us"]
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps({"schema": 1, "runs": [content]}))
    a, b, slow, old = map(str, paths)
    for arguments, status, words in (
        ([a, b], 0, "no difference"), ([a, slow], 1, "slower by more than 5%: enet openvino fp32"),
        ([a, slow, "--tolerance", "0.2"], 0, "no difference"), ([a, old], 2, "has no frame times"),
        ([a, str(tmp_path)], 2, "cannot be read"),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            main(["compare", *arguments])
        printed = capsys.readouterr()
        assert ended.value.code == status and words in printed.out + printed.err
    (tmp_path / "broken").write_text("{")
    with pytest.raises(InputError, match="holds no runs"):
        read_runs(tmp_path / "broken")
