"""CPUs whose int8 kernels saturate: who opens weights too large for one is told, and wrong answers are caught."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeseg import cpu
from edgeseg.artifact import load
from edgeseg.errors import CheckFailed
from edgeseg.export import BuildRequest, build
from edgeseg.runtimes import open_artifact
from edgeseg.runtimes._selftest import selftest

pytest.importorskip("openvino")
SIZE = (120, 160)
NO_VNNI, WITH_VNNI = frozenset({"sse4_1", "avx", "avx2"}), frozenset({"avx2", "avx512_vnni"})


def takes(monkeypatch: pytest.MonkeyPatch, features: frozenset[str]) -> None:
    """This CPU's features are read as these."""
    monkeypatch.setattr(cpu, "flags", lambda: features)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """One for CPUs that saturate, and one for those that do not, by the largest weight."""
    if cpu.saturates():
        pytest.skip("this CPU saturates: the build refuses what this test is to open")
    found = {}
    for levels, features in ((64, NO_VNNI), (127, WITH_VNNI)):
        with pytest.MonkeyPatch.context() as patch:
            takes(patch, features)
            out = tmp_path_factory.mktemp("build")
            request = BuildRequest(
                "enet", size=SIZE, precisions=("int8",), data=f"streets:8@{SIZE[0]}x{SIZE[1]}", out=out
            )
            found[levels] = build(request)[0]
    return found


def test_the_build_takes_the_range_of_its_cpu(artifacts: dict[int, Path]) -> None:
    for levels, path in artifacts.items():
        calibration = load(path).manifest.calibration
        assert calibration is not None
        assert calibration["weight_levels"] == levels


def test_full_weights_on_a_cpu_that_saturates_are_told_once(
    artifacts: dict[int, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    frame = np.zeros((*SIZE, 3), np.uint8)
    for features, told in ((WITH_VNNI, 0), (NO_VNNI, 1), (NO_VNNI, 1)):  # not again
        takes(monkeypatch, features)
        for path in artifacts.values():
            with open_artifact(path) as engine:
                engine.segment(frame)
        assert len(caplog.records) == told
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert line.startswith(f"{artifacts[127].name} has int8 weights up to 127 and this CPU has no VNNI")
    assert "build it again on this machine" in line
    assert "\n" not in line


def test_a_manifest_that_does_not_say_is_taken_for_full(
    artifacts: dict[int, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from edgeseg.runtimes.openvino import _warn_of_saturation

    takes(monkeypatch, NO_VNNI)
    manifest = load(artifacts[64]).manifest
    for i, (precision, calibration, told) in enumerate(
        (("int8", None, 1), ("int8", {}, 2), ("int8", {"weight_levels": 64}, 2), ("fp32", None, 2))
    ):
        _warn_of_saturation(Path(f"artifact-{i}"), replace(manifest, precision=precision, calibration=calibration))
        assert len(caplog.records) == told


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in cpu.X86, reason="x86's multiply-add is what saturates")
def test_saturated_answers_are_caught_by_the_self_test(artifacts: dict[int, Path]) -> None:
    """oneDNN, OpenVINO's kernels, held to what a CPU without VNNI has."""
    limited = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    for levels, status in ((127, 1), (64, 0)):
        command = [sys.executable, "-m", "edgeseg.runtimes", str(artifacts[levels])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=limited)
        assert done.returncode == status, done.stderr
        assert status == 0 or "the golden self-test gave" in done.stderr


@pytest.mark.parametrize(("kept", "least"), [(0.999, 0.99), (0.99, 0.98), (0.9, 0.95), (None, 0.95)])
def test_labels_may_differ_as_far_as_quantization_moved_them(
    artifacts: dict[int, Path], kept: float | None, least: float
) -> None:
    artifact = load(artifacts[127])
    known = {k: v for k, v in (artifact.manifest.calibration or {}).items() if k != "label_agreement"}
    known |= {} if kept is None else {"label_agreement": kept}
    artifact = replace(artifact, manifest=replace(artifact.manifest, calibration=known))
    for share, passes in ((least + 0.002, True), (least - 0.002, False)):
        labels = artifact.golden()["labels"].copy()
        wrong = labels.reshape(-1)[: round((1 - share) * labels.size)]
        wrong[:] = (wrong + 1) % len(artifact.manifest.classes)
        with nullcontext() if passes else pytest.raises(CheckFailed, match="of labels"):
            selftest(lambda _, labels=labels: {"labels": labels}, artifact)  # type: ignore[misc]
