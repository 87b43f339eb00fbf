"""The comparison with the vendors' quantizers: a small network through each that is installed, on its real engine."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeseg.artifact import load
from edgeseg.benchmarks._markdown import marks
from edgeseg.benchmarks.against_quantizers import comparison, vendors
from edgeseg.benchmarks.against_quantizers.__main__ import main
from edgeseg.benchmarks.against_quantizers.comparison import OURS, TARGETS, Comparison, Settings
from edgeseg.benchmarks.against_quantizers.networks import Network
from edgeseg.benchmarks.against_quantizers.table import NAME, table
from edgeseg.errors import MissingExtra

SIZE = (64, 96)
SMALL = Network("small", "espnet", "ESPNet, small", "streets:4@64x96:train", "streets:3@64x96:val", SIZE, SIZE)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(tmp_path_factory.mktemp("quantizers"), images=4, limit=2)


@pytest.mark.parametrize("name", vendors.names())
def test_a_vendors_quantizer_gives_an_int8_artifact_that_is_judged(settings: Settings, name: str) -> None:
    try:
        vendor = vendors.load(name)
    except MissingExtra as missing:
        pytest.skip(str(missing))
    found = Comparison(SMALL, settings).run(name)["targets"]
    assert found.keys() == {vendor.TARGET}
    figures = found[vendor.TARGET]
    assert "error" not in figures, figures
    assert len(figures["left_out"]) == figures["images"]
    assert figures["images"] == 2
    assert figures["agreement"] > 0.6  # it sees the same scene
    assert figures["agreement"] < 1  # and is quantized
    assert figures["drop"] == pytest.approx(figures["reference"] - figures["engine"])
    sizes = [_bytes(next((settings.out / "small" / which).glob(f"*{vendor.TARGET}*"))) for which in ("float", name)]
    assert sizes[1] < sizes[0]


def test_ours_is_judged_on_every_target_and_kept_until_something_changes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Comparison(SMALL, settings).run(OURS)
    assert first["targets"].keys() == set(TARGETS)
    assert len({figures["reference"] for figures in first["targets"].values()}) == 1
    monkeypatch.setattr(comparison, "build", lambda request: pytest.fail("it was built again"))
    assert Comparison(SMALL, settings).run(OURS) == first
    monkeypatch.setattr(comparison, "_sources", lambda: "others")
    with pytest.raises(pytest.fail.Exception, match="built again"):
        Comparison(SMALL, settings).run(OURS)


def test_what_a_vendor_refuses_stands_in_the_table(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, frames: vendors.Frames, folder: Path) -> list[str]:
        raise RuntimeError(f"no rule for {len(frames)} | frames\nmore")

    refusing = SimpleNamespace(TITLE="Refusing", CALL="", TARGET="openvino", PACKAGES=("numpy",), quantize=refuse)
    monkeypatch.setattr(vendors, "names", lambda: ["refusing"])
    monkeypatch.setattr(vendors, "load", lambda name: refusing)
    found = Comparison(SMALL, settings).run("refusing")
    assert found["targets"] == {"openvino": {"error": "RuntimeError: no rule for 4 | frames"}}
    assert "| Refusing | fails: RuntimeError: no rule for 4 / frames | – | – |" in table([SMALL], settings)
    assert not (settings.out / "small/refusing/openvino").exists()


def test_the_table_sets_ours_beside_a_vendors_of_the_same_images(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    figures = {"metric": "miou", "reference": 50.0, "engine": 49.5, "drop": 0.5, "images": 2}
    document: dict[str, Any] = {"cpu": {"model": "A CPU", "flags": ["avx2"]}}
    document["basis"] = {"images": 4, "limit": 2, "packages": {"numpy": "2"}}
    document["targets"] = {"tflite": {**figures, "left_out": [49.0, 49.5, 50.0]}}
    (tmp_path / "small/ours.json").write_text(json.dumps(document))
    document["targets"] = {"tflite": {**figures, "engine": 50.25, "drop": -0.25, "left_out": [49.7, 50.3, 50.9]}}
    document["vendor"] = {"title": "Theirs", "call": "`f()`", "target": "tflite"}
    (tmp_path / "small/theirs.json").write_text(json.dumps(document))
    made = table([SMALL], Settings(tmp_path, 4, 2))
    assert "| ESPNet, small | 2 | 50.00 mIoU | LiteRT | 49.50 | 0.50 | Theirs | 50.25 | −0.25 |" in made
    assert "| −0.25 | **−0.75 ± 0.12** |" in made
    assert "- Theirs (LiteRT): `f()`" in made and "A CPU (avx2)" in made
    assert "50.25" not in table([SMALL], Settings(tmp_path, 4, 3))
    assert "50.25" not in table([SMALL], Settings(tmp_path, 8, 2))


def test_the_table_goes_between_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGESEG_DATA", raising=False)
    document = tmp_path / "document.md"
    begin, end = marks(NAME)
    document.write_text(f"a\n{begin}\nold\n{end}\nb")
    arguments = ["enet-camvid", "--only", OURS, "--out", str(tmp_path), "--write", str(document)]
    assert main(arguments) == 0
    text = document.read_text()
    assert text.startswith(f"a\n{begin}\n\n| network |")
    assert text.endswith(f"\n{end}\nb")
    assert "old" not in text
    document.write_text(begin)
    assert main(arguments) == 2
    assert document.read_text() == begin


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "unknown network 'nonsense'"),
        (["--only", "nonsense"], "unknown quantizer 'nonsense'"),
        (["--limit", "0"], "must be at least 1"),
    ],
)
def test_a_wrong_argument_is_one_line(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_published_checkpoints_are_left_out_without_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EDGESEG_DATA", raising=False)
    assert main(["enet-camvid", "--only", OURS, "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "left out: enet-camvid: set EDGESEG_DATA" in said.err
    assert said.out.startswith("| network |")


def _bytes(path: Path) -> int:
    found = path if (path / "manifest.json").is_file() else next(path.iterdir())
    return sum(entry.bytes for name, entry in load(found).manifest.files.items() if name != "golden.npz")
