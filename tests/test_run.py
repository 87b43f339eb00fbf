"""``edgeseg run`` on what moves: a real video, a real stream of the network that breaks off and comes back."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgeseg.cli._legend import SHADE, Legend
from edgeseg.datasets import open_dataset
from edgeseg.export import BuildRequest, build
from edgeseg.overlay import distinct_color
from edgeseg.runtimes import open_artifact
from edgeseg.spec import ClassSpec
from tests.streams import camera

cv2 = pytest.importorskip("cv2")

SIZE = (64, 96)
SCENES = [open_dataset("streets:6@64x96:val")[i].frame for i in range(6)]
LARGE = [np.repeat(np.repeat(scene, 10, 0), 10, 1) for scene in SCENES[:2]]  # slower to draw than to send
CODE = "from edgeseg.cli import main; main()"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("artifacts")
    (path,) = build(BuildRequest("enet", size=SIZE, targets=("onnxruntime",), precisions=("fp32",), out=out))
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    for i in range(24):
        writer.write(np.ascontiguousarray(SCENES[i % 6][..., ::-1]))
    writer.release()
    return path


Run = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def run(artifact: Path, tmp_path: Path) -> Run:
    """``edgeseg run`` of the artifact, in a process of its own as FFmpeg's messages are set once in each: exit status,
    stdout, lines of stderr but the one that says what is done."""

    def call(*arguments: str | Path) -> tuple[int, str, list[str]]:
        options = ["--out", tmp_path / "out", *arguments]
        process = start(artifact, *options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, [line for line in err.splitlines() if not line.startswith("segment ")]

    return call


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CODE, "run", *map(str, arguments)],
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # as a terminal starts it
        **options,
    )


def overlays(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix("-overlay.png") for path in folder.glob("*-overlay.png"))


def whole(folder: Path) -> bool:
    """Every image can be read, and nothing half-written stands beside them."""
    for path in folder.iterdir():
        Image.open(path).load()
    return all(not path.name.startswith(".") for path in folder.iterdir())


# Files: every frame, in order


def test_a_video_gives_the_frames_that_are_asked_for(run: Run, video: Path, tmp_path: Path, artifact: Path) -> None:
    status, out, err = run(video, "--every", "5", "--limit", "3")
    assert (status, err) == (0, [])
    assert re.fullmatch(rf"3 overlays and label maps in {tmp_path / 'out'}; \d+\.\d FPS\n", out)
    assert overlays(tmp_path / "out") == ["drive-000000", "drive-000005", "drive-000010"]
    capture = cv2.VideoCapture(str(video))
    frames = [np.ascontiguousarray(capture.read()[1][..., ::-1]) for _ in range(6)]
    with open_artifact(artifact) as engine:
        labels = np.asarray(Image.open(tmp_path / "out/drive-000005-labels.png"))
        np.testing.assert_array_equal(labels, engine.segment(frames[5]))


def test_all_frames_of_a_video_are_kept(run: Run, video: Path, tmp_path: Path) -> None:
    assert run(video)[1].startswith("24 overlays and label maps in ")
    assert overlays(tmp_path / "out") == [f"drive-{i:06d}" for i in range(24)]


def test_a_folder_is_taken_in_steps(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i, scene in enumerate(SCENES):
        Image.fromarray(scene).save(tmp_path / "photos" / f"{i}.png")
    assert run(tmp_path / "photos", "--every", "2")[1] == f"3 overlays and label maps in {tmp_path / 'out'}\n"
    assert overlays(tmp_path / "out") == ["0", "2", "4"]


def test_the_rate_is_drawn_where_it_is_asked_for(run: Run, video: Path, tmp_path: Path) -> None:
    drawn = []
    for option in ("--fps", "--no-fps"):
        run(video, option, "--limit", "2", "--no-legend")
        drawn.append(np.asarray(Image.open(tmp_path / "out/drive-000001-overlay.png")).astype(int))
    assert (drawn[0][:12, -12:] != drawn[1][:12, -12:]).any() and (drawn[0][20:] == drawn[1][20:]).all()


# Streams of the network


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_stream_that_breaks_off_is_opened_again(scheme: str, run: Run, tmp_path: Path) -> None:
    with camera(scheme, SCENES, [8, 50], pause=0.02) as served:
        status, out, err = run(served.url, "--limit", "15")
        assert status == 0, err
        assert re.search(r"; \d+\.\d FPS(, \d+ dropped)?\n", out)
        assert len(err) == 2
        assert re.fullmatch(rf"'{served.url}' broke off after [78] frames; opening it again, up to 5 times", err[0])
        assert re.fullmatch(rf"'{served.url}' is back after \d\.\d s", err[1])
    names = overlays(tmp_path / "out")
    assert len(names) == 15 and all(name.startswith("front-0000") for name in names) and whole(tmp_path / "out")


def test_a_stream_that_does_not_come_back_is_one_line_and_what_was_written_stays(run: Run, tmp_path: Path) -> None:
    with camera("http", SCENES, [6], pause=0.05) as served:
        url = served.url.replace("://", "://robot:secret@")
        status, out, err = run(url, "--retries", "2")
    assert status == 2
    assert len(err) == 2 and "broke off after" in err[0] and "up to 2 times" in err[0]
    assert re.search(r"error: 'http://127\S+' broke off after \d frames and did not come back: is the", err[1])
    assert out.startswith(f"{len(overlays(tmp_path / 'out'))} overlays") and whole(tmp_path / "out")
    assert "secret" not in out + "".join(err) + "".join(overlays(tmp_path / "out"))


def test_the_latest_frame_of_a_stream_wins(run: Run, tmp_path: Path) -> None:
    with camera("http", LARGE, [10**6], pause=0.002) as served:
        status, out, err = run(served.url, "--limit", "6")
        assert (status, err) == (0, [])
    numbers = [int(name.rpartition("-")[2]) for name in overlays(tmp_path / "out")]
    dropped = re.search(r"(\d+) dropped\n", out)
    assert dropped is not None and int(dropped[1]) >= numbers[-1] - 5 > 0


def test_what_does_not_open_is_one_line(run: Run, tmp_path: Path) -> None:
    for source in ("http://127.0.0.1:9/front", "rtsp://127.0.0.1:9/front", "99", "/dev/video99"):
        status, out, err = run(source)
        assert (status, out, len(err)) == (2, "", 1)
        assert err[0].startswith(f"error: '{source}' does not open as an image, video or camera: is ")
    with camera("http", SCENES, []) as served:
        assert run(served.url)[0] == 2
    assert not (tmp_path / "out").exists()


def test_a_window_that_there_is_not_is_one_line(run: Run, video: Path) -> None:
    if cv2.currentUIFramework():
        pytest.skip("this OpenCV has windows")
    status, out, err = run(video, "--show")
    assert (status, out) == (2, "")
    assert len(err) == 1 and err[0].startswith(
        "error: --show needs an OpenCV with windows: pip uninstall opencv-python"
    )


# Ctrl-C, and a terminal


def interrupted(process: subprocess.Popen[str], out: Path, frames: int) -> tuple[int, str, str]:
    """Ctrl-C once there are some frames: exit status, stdout, last line of stderr."""
    until = time.monotonic() + 60
    while len(overlays(out)) < frames:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    printed, err = process.communicate(timeout=30)
    return process.returncode, printed, err.rstrip("\n").rpartition("\n")[2]


def test_ctrl_c_ends_a_stream_and_keeps_what_was_written(artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with camera("http", SCENES, [10**6], pause=0.02) as served:
        process = start(artifact, served.url, "--out", out, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        status, printed, last = interrupted(process, out, 5)
    assert (status, last) == (0, f"segment {served.url}")
    count = len(overlays(out))
    assert 0 <= count - int(printed.split()[0]) <= 1 and count >= 5 and whole(out)


def test_ctrl_c_ends_the_wait_for_a_stream(artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with camera("http", SCENES, [5], pause=0.05) as served:
        options: list[str | Path] = [artifact, served.url, "--retries", "99", "--out", out]
        process = start(*options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stderr is not None
        assert any("broke off" in line for line in process.stderr)
        time.sleep(1)
        began = time.monotonic()
        status, printed, _ = interrupted(process, out, 1)
    assert status == 0 and re.match(r"\d overlays", printed) and whole(out)
    assert time.monotonic() - began < 4  # not the seconds until the next try


def test_ctrl_c_of_a_folder_says_that_it_is_not_done(artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "photos").mkdir()
    for i in range(60):
        Image.fromarray(LARGE[0]).save(tmp_path / "photos" / f"{i:02d}.bmp")
    process = start(artifact, tmp_path / "photos", "--out", out, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    status, printed, last = interrupted(process, out, 3)
    assert (status, last) == (2, "error: interrupted; nothing half-written is left")
    assert re.match(r"\d+ overlays and label maps in ", printed) and whole(out)


def test_a_terminal_shows_the_rate(artifact: Path, video: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = start(artifact, video, "--out", tmp_path / "out", stdout=subprocess.PIPE, stderr=theirs, env=env)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:
        pass  # what Linux says of a terminal that is gone
    finally:
        os.close(ours)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and printed.startswith("24 overlays")
    assert re.search(rb"\d+\.\d FPS", shown) and b"/24" in shown


# The legend

CLASSES = [ClassSpec(f"class {i}", distinct_color(i)) for i in range(12)]


def swatches(overlay: np.ndarray[Any, np.dtype[np.uint8]], classes: list[ClassSpec]) -> list[int]:
    """The ids whose colour stands on ``overlay`` exactly, from the top down."""
    tops = {}
    for i, spec in enumerate(classes):
        rows = np.flatnonzero((overlay == np.array(spec.color, np.uint8)).all(-1).sum(1) >= 8)
        if len(rows):
            tops[int(rows[0])] = i
    return [tops[row] for row in sorted(tops)]


@given(st.sets(st.integers(0, 11), min_size=1))
def test_a_legend_names_the_classes_on_the_frame_and_no_other(ids: set[int]) -> None:
    labels = np.resize(np.array(sorted(ids), np.uint8), (240, 320))
    drawn = Legend(CLASSES, keep=False).draw(np.full((240, 320, 3), 7, np.uint8), labels)
    assert drawn.shape == (240, 320, 3) and drawn.dtype == np.uint8
    assert swatches(drawn, CLASSES) == sorted(ids)
    assert (drawn[:, 200:] == 7).all() and SHADE[3] < 255


def test_a_low_frame_names_the_classes_of_the_most_pixels() -> None:
    labels = np.repeat(np.arange(12, dtype=np.uint8), np.arange(12, 0, -1) * 100)[: 70 * 100].reshape(70, 100)
    ids = swatches(Legend(CLASSES, keep=False).draw(np.full((70, 100, 3), 7, np.uint8), labels), CLASSES)
    assert 0 < len(ids) < 11 and ids == list(range(len(ids)))


def test_a_moving_legend_keeps_what_it_has_named() -> None:
    gray, legend = np.full((240, 320, 3), 7, np.uint8), Legend(CLASSES, keep=True)
    for label, named in ((3, [3]), (5, [3, 5]), (0, [0, 3, 5])):
        assert swatches(legend.draw(gray, np.full((240, 320), label, np.uint8)), CLASSES) == named
