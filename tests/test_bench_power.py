"""Energy within ``bench``: an external meter's file, read over exactly the measured window."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeseg.cli import main
from tests.test_latency import artifact

WATTS = 5.0


@pytest.fixture
def meter(tmp_path: Path) -> Iterator[Path]:
    """A file that another program writes: 5 W, a hundred times a second."""
    path, done = tmp_path / "meter.csv", threading.Event()

    def write() -> None:
        with path.open("w", encoding="utf-8") as stream:
            stream.write("monotonic_s,power_w\n")
            while not done.wait(0.01):
                stream.write(f"{time.monotonic():.6f},{WATTS}\n")
                stream.flush()

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.2)
    yield path
    done.set()
    writer.join()


@pytest.mark.parametrize("idle", [False, True])
def test_energy_is_that_of_the_frames(
    meter: Path, tmp_path: Path, idle: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeseg.cli.bench.IDLE_S", 0.5)
    small = artifact(tmp_path / "small")
    options = ["--power", f"csv:{meter}", "--quick", "--seconds", "1", "--threads", "1", *(["--idle"] if idle else [])]
    with pytest.raises(SystemExit) as ended:
        main(["bench", str(small), *options, "--out", str(tmp_path / "out"), "--json"])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    (run,) = json.loads(printed.out)["runs"]
    energy, frames = run["energy"], run["latency_ms"]
    assert energy["average_w"] == pytest.approx(WATTS, rel=0.01) and "reasons" not in energy
    assert energy["seconds"] == pytest.approx(frames["n"] * frames["mean"] / 1000, rel=1e-6)
    wanted = 0.0 if idle else WATTS * frames["mean"]
    assert run["energy_mj_per_frame"] == pytest.approx(wanted, rel=0.01, abs=0.05 * frames["mean"])
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {"results.json", "results.csv", "results.md", "report.html"}
    assert json.loads((out / "results.json").read_text())["runs"][0]["energy"] == energy
    assert "mJ a frame" in (out / "report.html").read_text()


def test_idle_without_power_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", str(tmp_path), "--idle"])
    assert ended.value.code == 2 and "--idle is for energy: give --power too" in capsys.readouterr().err
