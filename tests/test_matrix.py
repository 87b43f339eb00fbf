"""Networks × targets × precisions: measured, resumed, and written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeseg.benchmarks._markdown import insert, marks
from edgeseg.benchmarks.matrix import MatrixRequest, Run, run_matrix
from edgeseg.benchmarks.matrix_table import NAME, full, main, short
from edgeseg.errors import InputError


def request(out: Path, **changes: object) -> MatrixRequest:
    facts = {
        "models": ("enet:overlap",), "targets": ("onnxruntime",), "precisions": ("fp32", "int8"), "size": (64, 96),
        "data": "streets:2@64x96:val", "calibration": "streets:2@64x96:train", "out": out, "seconds": 0.05,
    }  # fmt: skip
    return MatrixRequest(**{**facts, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Run]]:
    out = tmp_path_factory.mktemp("matrix")
    return out, run_matrix(request(out))


def test_untrained_networks_are_held_to_pytorch_by_their_logits(runs: tuple[Path, list[Run]]) -> None:
    fp32, int8 = runs[1]
    assert (fp32["model"], fp32["variant"], fp32["frame"], fp32["trained"]) == ("enet", "overlap", [64, 96], False)
    assert fp32["parity"]["sqnr_db"] >= 60 and fp32["parity"]["passed"]
    assert int8["parity"]["passed"] is None and 0 < int8["parity"]["sqnr_db"] < fp32["parity"]["sqnr_db"]
    assert "drop" not in int8["parity"] and int8["parity"]["quantization"]["agreement"] > 0
    assert fp32["latency_ms"]["p50"] > 0 and fp32["size_mb"] > 0


def test_it_goes_on_where_it_was(runs: tuple[Path, list[Run]]) -> None:
    out, before = runs
    (out / "cells" / "enet-overlap-onnxruntime-int8.json").unlink()
    kept = (out / "cells" / "enet-overlap-onnxruntime-fp32.json").stat().st_mtime_ns
    after = run_matrix(request(out))
    assert (out / "cells" / "enet-overlap-onnxruntime-fp32.json").stat().st_mtime_ns == kept
    assert after[0] == before[0] and after[1]["parity"] == before[1]["parity"]


def test_trained_weights_are_scored_on_the_frames_they_know(tmp_path: Path) -> None:
    (found,) = run_matrix(request(tmp_path, models=("enet",), precisions=("fp32",), size=None))
    assert found["trained"] and found["frame"] == [64, 96]
    assert found["parity"]["passed"] and found["parity"]["reference"] > 0


def test_a_failure_is_a_cell_and_stops_nothing(tmp_path: Path) -> None:
    found = run_matrix(request(tmp_path, models=("enet:overlap", "enet"), precisions=("fp32",), size=(60, 96)))
    assert [run["error"].split(":")[0] for run in found] == ["ENet takes sizes that are multiples of 8, not 60x96"] * 2
    assert "failed" in short(found) and "multiples of 8" in full(found)
    with pytest.raises(InputError, match="unknown model 'yolo'"):
        run_matrix(request(tmp_path, models=("yolo",)))


def test_tables_are_written_between_their_marks(runs: tuple[Path, list[Run]], tmp_path: Path) -> None:
    (out, found), (begin, end) = runs, marks(NAME)
    (out / "results.json").write_text(json.dumps({"schema": 1, "runs": found}))
    for name in ("README.md", "matrix.md"):
        (tmp_path / name).write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    main(str(tmp_path / "README.md"), str(tmp_path / "matrix.md"), str(out / "results.json"))
    readme, document = ((tmp_path / name).read_text() for name in ("README.md", "matrix.md"))
    assert readme == f"before\n{begin}\n{short(found)}\n{end}\nafter\n"
    assert "| enet overlap | 64×96 |" in readme and document.count("| enet overlap |") == 2
    with pytest.raises(InputError, match="no place for the table"):
        insert("nothing", NAME, "table")
