"""The report's pictures of time, and the tables beside it."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.benchmarks.figures import figures, histogram
from edgeseg.benchmarks.report import page
from edgeseg.benchmarks.report_page import plot, times
from edgeseg.benchmarks.tables import to_csv, to_markdown, write_tables


def run(target: str = "openvino") -> dict[str, Any]:
    durations = (np.random.default_rng(4).gamma(40, 50_000, 900)).astype(np.int64)
    clocks, heat = {"cpu": [900.0, 1500.0, None, 1500.0]}, {"tj (0)": [40.0, 41.5, 43.0, 44.0]}
    series = {"seconds": [-1.0, 0.5, 1.0, 2.0], "window": [0.0, 1.8], "clocks_mhz": clocks, "temperatures_c": heat}
    found = {"model": "enet", "target": target, "precision": "int8", "histogram": histogram(durations)}
    found["series"] = series
    return {**found, **figures(durations), "stages_ms": {"preprocess": 0.1, "infer": 2.0, "postprocess": 0.5}}


def test_histogram_stages_and_series_are_drawn() -> None:
    html = times.section([run(), run("tflite")])
    assert html.count('aria-label="histogram of frame times') == 2 and html.count("<rect") > 40
    assert html.count('aria-label="clocks and temperatures') == 2
    assert "cpu 900 to 1500 MHz, tj (0) 40 to 44 °C" in html
    shares = [float(v) for v in re.findall(r"--share:([\d.]+)", html)]
    assert len(shares) == 6 and abs(sum(shares[:3]) - 1) < 1e-3


def test_runs_without_these_parts_and_with_broken_ones_draw_nothing() -> None:
    assert times.section([{"model": "enet"}]) == ""
    odd = {
        "histogram": {"edges_ms": [1.0, 1.0], "counts": [3]},
        "series": {"seconds": [0.0], "clocks_mhz": {"cpu": [1]}},
    }
    assert times.section([odd, {"histogram": {"edges_ms": "x", "counts": None}, "series": None}]) == ""


def test_labels_from_runs_cannot_become_markup() -> None:
    evil = "<script>alert(1)</script>"
    bad = run(evil)
    bad["series"]["clocks_mhz"] = {evil: [1.0, 2.0, 3.0, 4.0]}
    assert evil not in page([bad], [])


def test_the_front_holds_what_nothing_beats() -> None:
    spots = {"a": (1, 50), "b": (2, 60), "c": (3, 55), "d": (2, 58), "e": (4, 70)}
    points = [plot.Point(x, y, label, 0, "fp32") for label, (x, y) in spots.items()]
    assert [p.label for p in plot.pareto(points)] == ["a", "b", "e"]
    assert plot.scatter(points, None, "mIoU", 1160, 460).count('class="front"') == 1


def test_csv_and_markdown_hold_the_same_figures(tmp_path: Path) -> None:
    failed = {"model": "unet", "target": "tflite", "precision": "int8", "error": "no | such, thing"}
    runs = [run(), failed]
    rows = list(csv.DictReader(io.StringIO(to_csv(runs))))
    assert float(rows[0]["p999_ms"]) == runs[0]["latency_ms"]["p999"]
    assert rows[1]["error"] == failed["error"] and rows[1]["p50_ms"] == "" and "energy_mj_per_frame" not in rows[0]
    lines = to_markdown(runs).splitlines()
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1 and "no / such, thing" in lines[3]
    write_tables(runs, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "results.md"]
    assert json.dumps(runs)
