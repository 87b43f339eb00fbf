"""``edgeseg finish`` with a stand-in for TensorRT: what it refuses, what it keeps, what it leaves when it is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import edgeseg.export
from edgeseg import jetson, ticket
from edgeseg.artifact import load
from edgeseg.cli import _bundle, finish, main
from edgeseg.errors import ArtifactError, InputError
from edgeseg.export import BuildRequest
from edgeseg.export.ticket import build_tickets, place
from edgeseg.jetson import Memory
from edgeseg.manifest import Manifest
from edgeseg.runtimes import open_artifact
from tests import fake_tensorrt
from tests.test_boards import JETPACK_6, MEMINFO, tree

GIB = 1 << 30
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real ticket: ENet with the packaged weights, for Orin Nano with JetPack 6.2."""
    request = BuildRequest("enet", size=(64, 96), targets=("tensorrt",), out=tmp_path_factory.mktemp("tickets"))
    return build_tickets(request, place("orin-nano", "6"))[0]


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "work" / made.name))


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine looks like an Orin Nano with JetPack 6.2, and has the stand-in for TensorRT."""
    root = tree(tmp_path / "root", {**JETPACK_6, "proc/meminfo": MEMINFO})
    monkeypatch.setattr(finish, "ROOT", root)
    monkeypatch.setitem(sys.modules, "edgeseg.export.tensorrt", fake_tensorrt)
    monkeypatch.setitem(sys.modules, "edgeseg.runtimes.tensorrt", fake_tensorrt)
    monkeypatch.setattr(edgeseg.export, "tensorrt", fake_tensorrt, raising=False)
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(fake_tensorrt.install(tmp_path / "site"))
    return root


@pytest.fixture
def run(board: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """``edgeseg finish`` on the board: exit status, stdout, stderr."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(["finish", *map(str, arguments)])
        return (int(caught.value.code or 0), *capfd.readouterr())

    return call


def test_a_ticket_becomes_a_proven_artifact(bundle: Path, run: Run) -> None:
    status, out, err = run(bundle, "--json")
    assert status == 0, err
    path = bundle.parent / "enet-64x96-tensorrt-fp32"
    assert json.loads(out)["artifacts"][0]["artifact"] == str(path)
    manifest = load(path).manifest
    assert sorted(p.name for p in path.iterdir()) == ["golden.npz", "manifest.json", "model.plan"]
    assert manifest.device == {
        "package": "tensorrt", "tensorrt": "10.3.0", "compute_capability": "8.7", "board": "orin-nano",
        "model": JETPACK_6["sys/firmware/devicetree/base/model"].rstrip("\0"), "l4t": "36.4.3", "jetpack": "6.2",
        "power_mode": "MAXN_SUPER",
    }  # fmt: skip
    assert manifest.toolchain["tensorrt"] == "10.3.0"
    assert not ticket.is_ticket(manifest)
    assert manifest.onnx_sha256 == load(bundle).manifest.onnx_sha256
    assert sorted(p.name for p in bundle.parent.iterdir()) == [path.name, bundle.name]


def test_options_reach_the_builder(bundle: Path, run: Run, tmp_path: Path) -> None:
    status, out, _ = run(bundle, "--workspace", "64", "--out", tmp_path / "out")
    assert (status, out) == (0, f"{tmp_path / 'out' / 'enet-64x96-tensorrt-fp32'}\n")
    assert (bundle / "timing.cache").read_text() == f"fp32 {64 << 20} None\n"


def test_a_ticket_does_not_open_as_an_engine(bundle: Path) -> None:
    with pytest.raises(ArtifactError, match=r"is a build ticket, no engine yet: run edgeseg finish .* on its board"):
        open_artifact(bundle)


def listing(bundle: Path) -> list[str]:
    return sorted(p.name for p in bundle.parent.rglob("*") if p.name != ".lock")


def refused(bundle: Path, run: Run, message: str, *options: str | Path) -> None:
    before = listing(bundle)
    status, out, err = run(bundle, *options)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (status, out, len(lines)) == (2, "", 1), err
    assert message in lines[0]
    assert listing(bundle) == before


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("NVIDIA Jetson AGX Orin Developer Kit", "for Jetson Orin Nano, this machine is Jetson AGX Orin: finish it"),
        ("NVIDIA Jetson Orin Mega", "this machine is 'NVIDIA Jetson Orin Mega', which is not known"),
    ],
)
def test_another_board_is_refused(model: str, message: str, bundle: Path, board: Path, run: Run) -> None:
    (board / jetson.MODEL).write_text(model)
    refused(bundle, run, message)
    assert run(bundle, "--force")[0] == 0


def test_a_machine_that_is_no_jetson_is_refused(bundle: Path, board: Path, run: Run) -> None:
    for name in (jetson.MODEL, jetson.RELEASE):
        (board / name).unlink()
    refused(bundle, run, "this machine is no Jetson")
    assert run(bundle, "--force")[0] == 0
    device = load(bundle.parent / "enet-64x96-tensorrt-fp32").manifest.device
    assert device == {"package": "tensorrt", "tensorrt": "10.3.0"}


def test_another_tensorrt_is_refused(bundle: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", "8.5.2.2")
    refused(bundle, run, "for TensorRT 10.3.0 of JetPack 6.2, here is 8.5.2.2: build it again with the --jetpack")
    assert run(bundle, "--force")[0] == 0


def test_what_the_proof_lacks_is_told_before_the_build(bundle: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "edgeseg.runtimes.tensorrt")
    for name in [name for name in sys.modules if name.partition(".")[0] == "cuda"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cuda", None)
    refused(bundle, run, "target tensorrt needs cuda-python: pip install 'edgeseg[tensorrt]'")
    assert not (bundle / "timing.cache").exists()


def test_want_of_memory_is_told_before_the_build(bundle: Path, board: Path, run: Run) -> None:
    (board / "proc/meminfo").write_text("MemTotal: 7620216 kB\nMemAvailable: 900000 kB\nSwapFree: 0 kB\n")
    refused(bundle, run, "of memory, 0.9 GiB and 0.0 GiB of swap are free, 0.")
    assert not (bundle / "timing.cache").exists()
    assert run(bundle, "--workspace", "1")[0] == 0


def test_memory_that_is_not_told_is_refused(bundle: Path, board: Path, run: Run) -> None:
    (board / "proc/meminfo").write_text("MemTotal: 7 GB\n")
    refused(bundle, run, "/proc/meminfo does not tell how much of the ")
    assert run(bundle, "--force")[0] == 0


ORDER = ticket.Ticket("orin-nano", "6.2", "10.3.0", None, None, GIB, {"libraries": GIB, "weights": GIB})


@pytest.mark.parametrize(
    ("free", "swap", "hint"),
    [
        (2.5, 0.0, "0.5 GiB are missing: close the desktop"),
        (2.5, 0.0, "or give --workspace 512 (--force"),
        (1.0, 0.5, "1.5 GiB are missing: "),
    ],
)
def test_how_much_memory_is_missing(free: float, swap: float, hint: str) -> None:
    memory = Memory(8 * GIB, int(free * GIB), int(swap * GIB))
    with pytest.raises(InputError) as caught:
        finish.check_memory(ORDER, GIB, memory)
    assert hint in str(caught.value)
    assert ("--workspace" in str(caught.value)) == (free + swap > 2)
    finish.check_memory(ORDER, GIB, replace(memory, swap=3 * GIB - memory.available))


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "manifest.json"])
def test_an_altered_bundle_is_refused(name: str, bundle: Path, run: Run) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 0x80
    (bundle / name).write_bytes(content)
    refused(bundle, run, "manifest" if name == "manifest.json" else f"{name} does not have the hash")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "this is no build ticket"),
        ({"board": 7}, "malformed ticket"),
        ({"board": "orin-mega"}, "unknown board 'orin-mega'"),
        ({"tensorrt": "newest"}, "malformed ticket"),
        ({"workspace": -1}, "malformed ticket"),
        ({"memory": {"weights": 0.5}}, "malformed ticket"),
        ({"dla_core": True}, "malformed ticket"),
    ],
)
def test_a_ticket_that_is_none_is_refused(change: dict[str, Any] | None, message: str, bundle: Path, run: Run) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["ticket"] = None if change is None else {**manifest["ticket"], **change}
    if change is None:
        del manifest["ticket"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    refused(bundle, run, message)


def test_a_plan_of_trtexec_is_only_proved(bundle: Path, board: Path, run: Run) -> None:
    (board / "proc/meminfo").write_text("MemTotal: 1 kB\nMemAvailable: 1 kB\nSwapFree: 0 kB\n")
    shutil.copy(bundle / "model.onnx", bundle / "model.plan")
    status, out, err = run(bundle, "--plan", bundle / "model.plan")
    assert (status, out) == (0, f"{bundle.parent / 'enet-64x96-tensorrt-fp32'}\n"), err
    assert not (bundle / "timing.cache").exists()


def test_a_plan_that_is_none(bundle: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    refused(bundle, run, "no engine at ", "--plan", tmp_path / "none")
    refused(bundle, run, "is empty: trtexec did not finish it", "--plan", tmp_path / "empty")


@pytest.mark.parametrize(
    ("environment", "reason"), [({}, "failed its self-check"), ({"FAKE_CRASH": "1"}, "ended with status -6")]
)
def test_an_engine_that_does_not_prove_itself_is_not_kept(
    environment: dict[str, str], reason: str, bundle: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    plan = tmp_path / "other.plan"
    plan.write_bytes(b"no engine" if not environment else (bundle / "model.onnx").read_bytes())
    status, out, err = run(bundle, "--plan", plan)
    assert (status, out) == (1, "")
    assert reason in err
    assert [p.name for p in bundle.parent.iterdir()] == [bundle.name]


def test_a_plan_made_before_the_proof_was_stopped_is_not_made_again(bundle: Path, run: Run) -> None:
    key = {"onnx": "x", "workspace": 1}
    plan = b"plan"
    _bundle.keep_plan(bundle, key, plan)
    assert _bundle.kept_plan(bundle, key) == plan
    assert _bundle.kept_plan(bundle, {**key, "workspace": 2}) is None
    (bundle / _bundle.FOLDER / _bundle.KEPT).write_bytes(b"plam")
    assert _bundle.kept_plan(bundle, key) is None
    _bundle.drop_plan(bundle)
    assert not (bundle / _bundle.FOLDER).exists()


def start(bundle: Path, board: Path, site: Path, **environment: str) -> subprocess.Popen[str]:
    """``edgeseg finish`` in a process that has neither PyTorch nor ONNX."""
    code = (
        "import sys, pathlib\n"
        "absent = ('torch', 'onnx', 'onnx_ir', 'onnxscript', 'onnxruntime', 'safetensors', 'openvino')\n"
        "sys.modules.update(dict.fromkeys(absent))\n"
        "from edgeseg.cli import finish, main\n"
        f"finish.ROOT = pathlib.Path({str(board)!r})\n"
        f"main(['finish', {str(bundle)!r}])"
    )
    env = {**os.environ, "PYTHONPATH": str(site), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )


def test_needs_neither_torch_nor_onnx(bundle: Path, board: Path, tmp_path: Path) -> None:
    with start(bundle, board, tmp_path / "site") as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (0, f"{bundle.parent / 'enet-64x96-tensorrt-fp32'}\n"), err


def test_the_builder_itself_needs_neither() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'onnx', 'onnx_ir', 'onnxscript', 'onnxruntime')));"
        "from edgeseg.cli import finish; from edgeseg.export import tensorrt; tensorrt.BuildOptions()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_killed_run_leaves_the_bundle_usable(bundle: Path, board: Path, run: Run, tmp_path: Path) -> None:
    with start(bundle, board, tmp_path / "site", FAKE_SECONDS="60") as process:
        while not (bundle / "timing.cache").exists():
            assert process.poll() is None
            time.sleep(0.05)
        status, _, err = run(bundle)
        assert (status, "another edgeseg finish works on" in err) == (2, True)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert load(bundle).manifest.target == "tensorrt"
    status, _, err = run(bundle)
    assert status == 0, err
    assert (bundle / "timing.cache").read_text().count("\n") == 2  # the second build found the first one's


def test_a_run_stopped_while_it_proves_goes_on_there(bundle: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finish, "_complete", stop)
        assert run(bundle)[0] == 2
    assert (bundle / "unfinished").is_dir()
    assert run(bundle)[0] == 0
    assert (bundle / "timing.cache").read_text().count("\n") == 1
    assert not (bundle / "unfinished").exists()


def test_names() -> None:
    assert finish.finished_name(Path("x/enet-paper-8x8-tensorrt-int8-for-orin-nano-dla1"), ORDER) == (
        "enet-paper-8x8-tensorrt-int8-dla1"
    )
    assert finish.finished_name(Path("renamed"), ORDER) == "renamed-finished"


def test_a_ticket_survives_its_manifest(made: Path) -> None:
    manifest = load(made).manifest
    order = ticket.read(manifest)
    assert (order.board, order.jetpack, order.tensorrt, order.dla_core) == ("orin-nano", "6.2", "10.3.0", None)
    again = Manifest.from_json(ticket.write(replace(manifest, extra={}), order).to_json())
    assert ticket.read(again) == order
