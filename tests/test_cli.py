"""The command line, end to end on real engines: what it prints, what it writes, how it refuses."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from edgeseg import models
from edgeseg.artifact import sha256
from edgeseg.benchmarks.latency import LEAST_FRAMES
from edgeseg.cli import main
from edgeseg.cli._packages import usable_targets
from edgeseg.datasets import open_dataset
from edgeseg.models._weights import PACKAGED
from edgeseg.runtimes import open_artifact, targets
from edgeseg.spec import PRECISIONS

DATA = "streets:6@64x96:val"
RUN_KEYS = {"artifact", "model", "target", "precision"}


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Built by the command line itself, for two targets."""
    out = tmp_path_factory.mktemp("build")
    targets = ["--target", "onnxruntime", "--target", "openvino"]
    done = edgeseg("build", "enet", "--size", "64x96", *targets, "--data", DATA, "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    return [Path(found["artifact"]) for found in json.loads(done.stdout)["artifacts"]]


def edgeseg(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run in a process of its own, as a shell does."""
    command = [sys.executable, "-c", "from edgeseg.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run in this process, which has PyTorch loaded: exit status, stdout, stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(a) for a in arguments])
        return (int(caught.value.code or 0), *capfd.readouterr())

    return run


def test_help_names_every_command(cli: Cli) -> None:
    status, out, err = cli()
    assert (status, err) == (0, "")
    for command in ("demo", "models", "build", "check", "bench", "run", "train", "finish", "verify", "doctor"):
        assert f" {command} " in out


@pytest.mark.parametrize(("name", "value", "spins"), [
    (None, "", "10000"), ("GOMP_SPINCOUNT", "7", "7"), ("OMP_WAIT_POLICY", "ACTIVE", None),
])  # fmt: skip
def test_waiting_threads_sleep_soon_unless_the_user_says_how(
    name: str | None, value: str, spins: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(variable, "")  # so that it is as it was afterwards
        monkeypatch.delenv(variable)
    if name:
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_models(cli: Cli) -> None:
    status, out, _ = cli("models", "--json")
    document = json.loads(out)
    assert (status, document["schema"]) == (0, 1)
    assert [model["name"] for model in document["models"]] == models.names()
    assert "arXiv:1606.02147" in cli("models")[1]


def test_build_writes_what_it_names(artifacts: list[Path]) -> None:
    names = [f"enet-64x96-{target}-fp32" for target in ("onnxruntime", "openvino")]
    assert [path.name for path in artifacts] == names
    folder = artifacts[0].parent
    assert sorted(path.name for path in folder.iterdir()) == [*names, "onnx"]


def test_check(artifacts: list[Path], cli: Cli) -> None:
    status, out, _ = cli("check", *artifacts, "--data", DATA, "--limit", "3", "--json")
    document = json.loads(out)
    assert (status, document["schema"], len(document["runs"])) == (0, 1, 2)
    for run in document["runs"]:
        found = run["parity"]
        assert set(run) == RUN_KEYS | {"parity"}
        assert (found["metric"], found["images"]) == ("miou", 3)
        assert found["drop"] == pytest.approx(found["reference"] - found["engine"])
        assert 0 <= found["drop_error"] < 0.1
        assert found["agreement"] > 0.999
        assert found["passed"]


def test_check_over_the_gate_is_status_1(artifacts: list[Path], tmp_path: Path, cli: Cli) -> None:
    """An engine that its manifest says was made from other weights."""
    other, altered = tmp_path / "other.safetensors", tmp_path / artifacts[0].name
    state = load_file(next(PACKAGED.glob("enet-*.safetensors")))
    state["transposed_conv.weight"] = state["transposed_conv.weight"].flip(1).contiguous()
    save_file(state, other)
    status, _, err = cli("check", artifacts[0], "--data", DATA, "--weights", other, "--limit", "2")
    assert (status, last_line(err).partition(" is not ")[2][:14]) == (2, "the checkpoint")
    shutil.copytree(artifacts[0], altered)
    manifest = json.loads((altered / "manifest.json").read_text())
    manifest["model"]["weights"]["sha256"] = sha256(other)
    (altered / "manifest.json").write_text(json.dumps(manifest))
    status, out, err = cli("check", altered, "--data", DATA, "--weights", other, "--limit", "2")
    assert (status, last_line(err)) == (1, f"error: 1 of 1 artifacts over the gate: {altered}")
    assert "FAILED" in out


def test_bench(artifacts: list[Path], cli: Cli) -> None:
    status, out, _ = cli("bench", artifacts[0], "--seconds", "0.2", "--threads", "1", "--json")
    run = json.loads(out)["runs"][0]
    assert status == 0
    assert set(run) >= RUN_KEYS | {"latency_ms", "fps", "throughput_fps", "stages_ms", "size_mb", "validity"}
    assert 0 < run["latency_ms"]["p50"] <= run["latency_ms"]["p99"]
    assert run["validity"]["threads"] == 1


def test_run_draws_and_labels_frames_of_any_size(artifacts: list[Path], tmp_path: Path, cli: Cli) -> None:
    source, out = tmp_path / "photos", tmp_path / "out"
    source.mkdir()
    frame = open_dataset(DATA)[0].frame
    Image.fromarray(frame).save(source / "exact.png")
    Image.fromarray(frame).resize((144, 80)).save(source / "wide.jpg")
    status, printed, _ = cli("run", artifacts[0], source, "--out", out)
    assert (status, printed) == (0, f"2 overlays and label maps in {out}\n")
    assert sorted(p.name for p in out.iterdir()) == [
        f"{stem}-{kind}.png" for stem in ("exact", "wide") for kind in ("labels", "overlay")
    ]
    with open_artifact(artifacts[0]) as engine:
        np.testing.assert_array_equal(np.asarray(Image.open(out / "exact-labels.png")), engine.segment(frame))
    assert Image.open(out / "wide-labels.png").size == Image.open(out / "wide-overlay.png").size == (144, 80)
    assert cli("run", artifacts[0], source / "exact.png", "--out", out)[1].startswith("1 overlays")


def test_run_reads_videos(artifacts: list[Path], tmp_path: Path, cli: Cli) -> None:
    cv2 = pytest.importorskip("cv2")
    video = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    for i in range(3):
        writer.write(np.ascontiguousarray(open_dataset(DATA)[i].frame[..., ::-1]))
    writer.release()
    status, printed, _ = cli("run", artifacts[0], video, "--out", tmp_path / "out")
    assert (status, printed.partition(";")[0]) == (0, f"3 overlays and label maps in {tmp_path / 'out'}")
    assert (tmp_path / "out" / "drive-000002-overlay.png").exists()


def test_verify(artifacts: list[Path], tmp_path: Path, cli: Cli) -> None:
    status, out, _ = cli("verify", *artifacts, "--json")
    found = json.loads(out)["artifacts"]
    assert status == 0
    assert [a["passed"] for a in found] == [True, True]
    assert all(v["built"] == v["installed"] for a in found for v in a["versions"].values())
    broken = shutil.copytree(artifacts[0], tmp_path / "broken")
    (broken / "model.onnx").write_bytes((broken / "model.onnx").read_bytes()[:-1])
    status, out, err = cli("verify", broken, artifacts[1], "--json")
    assert [a["passed"] for a in json.loads(out)["artifacts"]] == [False, True]
    assert (status, err.count("\n")) == (2, 1)
    assert "model.onnx has" in err


def test_train_writes_weights_that_build_takes(tmp_path: Path, cli: Cli) -> None:
    options = ["--data", "streets:4@32x32:train", "--val", "streets:2@32x32:val", "--steps", "2", "--batch", "2"]
    status, out, _ = cli("train", "enet", *options, "--out", tmp_path)
    weights = tmp_path / "enet.safetensors"
    assert (status, last_line(out)) == (0, str(weights))
    assert models.load("enet", weights).classes == 11


def test_doctor_tells_of_every_target(cli: Cli) -> None:
    status, out, _ = cli("doctor", "--json")
    checks = json.loads(out)["checks"]
    assert status == 0
    assert {c["name"].removeprefix("target ") for c in checks if c["kind"] == "target"} == set(targets())
    assert all(c["ok"] or c["found"] or c["mend"] for c in checks)
    assert {"target", "extra", "nvidia", "cpu", "device", "power", "clock"} == {c["kind"] for c in checks} - {"jetson"}


def test_doctor_names_the_command_that_brings_a_target(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "edgeseg.runtimes.onnxruntime", raising=False)
    checks = {c["name"]: c for c in json.loads(cli("doctor", "--json")[1])["checks"]}
    assert checks["target onnxruntime"]["ok"] is False
    assert checks["target onnxruntime"]["mend"] == "pip install 'edgeseg[onnxruntime]'"


def last_line(text: str) -> str:
    return text.rstrip("\n").rpartition("\n")[2]


STEPS = ("capture", "calibrate", "compile", "check", "bench", "segment")  # progress, where stderr is no terminal
BUILD = ("build", "enet", "--out", "{tmp}/out", "--size", "64x96")
BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "no such command": (("biuld",), "No such command 'biuld'"),
    "no such option": (("models", "--jason"), "No such option: --jason"),
    "argument left out": (("check", "--data", DATA), "Missing argument"),
    "option left out": (("check", "{artifact}"), "Missing option '--data'"),
    "number that is none": ((*BUILD, "--calib-images", "many"), "Invalid value for '--calib-images'"),
    "model": (("build", "yolo", "--out", "{tmp}/out"), "unknown model 'yolo': use one of "),
    "target": ((*BUILD, "--target", "coreml"), "unknown target 'coreml': use one of onnxruntime, openvino"),
    "precision": ((*BUILD, "--precision", "int4"), "unknown precision 'int4': use one of fp32, fp16, int8"),
    "output": ((*BUILD, "--output", "masks"), "unknown output 'masks': use one of labels, logits, both"),
    "variant": ((*BUILD, "--variant", "deep"), "enet has no variant 'deep': use one of paper, overlap"),
    "size": (("build", "enet", "--size", "64"), "--size wants HEIGHTxWIDTH"),
    "zero size": (("build", "enet", "--size", "0x64"), "--size wants HEIGHTxWIDTH"),
    "frame": (("build", "enet", "--frame", "axb"), "--frame wants HEIGHTxWIDTH"),
    "stride": ((*BUILD, "--size", "65x96"), "multiples of 8, not 65x96"),
    "classes file": (("build", "enet", "--classes", "{tmp}/none.txt"), "--classes {tmp}/none.txt is neither"),
    "too many classes": (("build", "enet", "--classes", "999"), "--classes must be 1 to 255, not 999"),
    "other number of classes": ((*BUILD, "--classes", "5"), "was trained for 11 classes, not 5"),
    "no checkpoint": (("build", "enet", "--weights", "{tmp}/none.pth"), "no checkpoint at {tmp}/none.pth"),
    "checkpoint that is none": (("build", "enet", "--weights", "{text}"), "is no checkpoint that"),
    "checkpoint of another network": (("build", "enet", "--weights", "{other}"), "missing: initial_block."),
    "int8 without data": ((*BUILD, "--precision", "int8"), "int8 needs images to calibrate on: give --data"),
    "data kind": ((*BUILD, "--data", "photos:{tmp}"), "unknown data kind 'photos'"),
    "no data": ((*BUILD, "--data", "folder:{tmp}/none"), "no folder at '{tmp}/none'"),
    "empty data": ((*BUILD, "--precision", "int8", "--data", "folder:{tmp}"), "no images (.bmp .jpeg"),
    "unreadable data": ((*BUILD, "--precision", "int8", "--data", "folder:{bad_images}"), "bad.png cannot be"),
    "no calibration": ((*BUILD, "--precision", "int8", "--data", DATA, "--calib-images", "0"), "at least 1"),
    "no artifact": (("bench", "{tmp}"), "{tmp} is not an artifact"),
    "seconds": (("bench", "{artifact}", "--seconds", "-1"), "seconds must be positive"),
    "threads": (("bench", "{artifact}", "--threads", "0"), "threads must be at least 1"),
    "train without classes": (("train", "enet", "--data", "folder:{bad_images}"), "names no classes"),
    "train no steps": (("train", "enet", "--data", "streets", "--steps", "0"), "Invalid value for '--steps'"),
    "limit": (("check", "{artifact}", "--data", DATA, "--limit", "0"), "--limit must be at least 1"),
    "no source": (("run", "{artifact}", "{tmp}/none.png"), "no image, folder, video or camera at"),
    "empty source": (("run", "{artifact}", "{tmp}"), "no images in {tmp}"),
    "damaged source": (("run", "{artifact}", "{bad_images}/bad.png"), "bad.png cannot be read"),
    "source of text": (("run", "{artifact}", "{text}"), "does not open as an image, video or camera"),
    "newer manifest": (("bench", "{newer}"), "has schema 99, this edgeseg reads schema 1: update edgeseg"),
    "altered file": (("run", "{altered}", "{tmp}/x.png"), "model.onnx does not have the hash"),
    "out is a file": ((*BUILD, "--out", "{text}"), "{text} is a file: give --out a folder"),
}  # fmt: skip


@pytest.fixture(scope="module")
def places(artifacts: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The paths that the table of bad input speaks of, but ``tmp``."""
    root = tmp_path_factory.mktemp("places")
    (root / "text").write_text("no checkpoint, no image")
    torch.save({"conv.weight": torch.zeros(3, 3)}, root / "other.pth")
    (root / "images").mkdir()
    (root / "images" / "bad.png").write_bytes(b"\x89PNG\r\n")
    for name in ("newer", "altered"):
        shutil.copytree(artifacts[0], root / name)
    manifest = json.loads((root / "newer" / "manifest.json").read_text())
    (root / "newer" / "manifest.json").write_text(json.dumps({**manifest, "schema": 99}))
    content = bytearray((root / "altered" / "model.onnx").read_bytes())
    content[-1] ^= 1
    (root / "altered" / "model.onnx").write_bytes(content)
    names = {"other": "other.pth", "bad_images": "images"}
    paths = {key: str(root / names.get(key, key)) for key in ("text", "other", "bad_images", "newer", "altered")}
    return {**paths, "artifact": str(artifacts[0]), "openvino": str(artifacts[1])}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2(case: str, places: dict[str, str], tmp_path: Path, cli: Cli) -> None:
    arguments, message = BAD[case]
    known = {**places, "tmp": str(tmp_path)}
    status, out, err = cli(*(argument.format(**known) for argument in arguments))
    assert (status, out) == (2, "")
    lines = [line for line in err.splitlines() if not line.startswith(STEPS)]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert message.format(**known) in lines[0]
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("torch", ("models",), "export"),
        ("onnx_ir", BUILD, "export"),
        ("openvino", (*BUILD, "--target", "openvino"), "openvino"),
        ("openvino", ("run", "{openvino}", "{tmp}"), "openvino"),
        ("onnxruntime", ("verify", "{artifact}"), "onnxruntime"),
        ("cv2", ("run", "{artifact}", "0"), "video"),
    ],
)
def test_a_missing_package_names_the_command_that_brings_it(
    missing: str, arguments: tuple[str, ...], extra: str, places: dict[str, str], tmp_path: Path
) -> None:
    code = f"import sys; sys.modules['{missing}'] = None; from edgeseg.cli import main; main()"
    given = [argument.format(**places, tmp=tmp_path) for argument in arguments]
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"pip install 'edgeseg[{extra}]'" in done.stderr


def build_command(out: Path, target: str) -> list[str]:
    return ["build", "enet", "--size", "64x96", "--target", target, "--out", str(out)]


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_a_full_disk_leaves_nothing_half_written(target: str, tmp_path: Path) -> None:
    """Simulated by a limit on file size, which fails the same writes."""
    limit = 200_000
    done = edgeseg(
        *build_command(tmp_path / "out", target),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 2, done.stderr
    assert "no space left" in last_line(done.stderr), done.stderr
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == []


def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path) -> None:
    """In the middle of the self-check, which is held up, so that there is something half-written."""
    held = "import time; from edgeseg import selfcheck; selfcheck.selfcheck = lambda *_: time.sleep(60)"
    command = [sys.executable, "-c", f"{held}; from edgeseg.cli import main; main()"]
    command += build_command(tmp_path / "out", "onnxruntime")
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # As a terminal starts it: tests that a script runs in the background inherit that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("compile"):
                break
        while not list((tmp_path / "out").rglob("manifest.json")):
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 2
    assert rest == "error: interrupted; nothing half-written is left\n"
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == []


def test_a_closed_pipe_is_no_error() -> None:
    code = "from edgeseg.cli import main; main(['doctor', '--json'])"
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -c "{code}" | true'], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_demo_wants_packaged_weights(tmp_path: Path, cli: Cli) -> None:
    status, out, err = cli("demo", "--model", "segnet", "--out", tmp_path / "demo")
    assert (status, out) == (2, "")
    assert "no weights of segnet come with the package: use one of" in err
    assert "enet" in err
    assert not (tmp_path / "demo").exists()


@pytest.mark.slow
def test_demo_tells_the_whole_story(tmp_path: Path, cli: Cli) -> None:
    status, out, err = cli("demo", "--out", tmp_path)
    runs = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert status == 0, err
    usable = usable_targets()
    assert all(f"left out: target {name} " in err for name in set(targets()) - {*usable})
    assert {(run["target"], run["precision"]) for run in runs} == set(product(usable, PRECISIONS))
    for run in runs:
        found = run["parity"]
        assert found["passed"]
        assert run["latency_ms"]["n"] >= LEAST_FRAMES
        if run["precision"] == "int8":
            parts = found["quantization"]["drop"] + found["engine_error"]["drop"]
            assert parts == pytest.approx(found["drop"])
    page = (tmp_path / "report.html").read_text()
    assert all(f"{target}" in page for target in usable)
    assert str(tmp_path / "report.html") in out
