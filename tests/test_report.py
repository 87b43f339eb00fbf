"""The report: one file, complete, and readable on a phone; judged in a real browser where there is one."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeseg.benchmarks.report import Overlay, page, write_report
from edgeseg.benchmarks.report_page import summary
from edgeseg.errors import InputError
from edgeseg.spec import ClassSpec
from tests import chromium

CLASSES = tuple(ClassSpec(f"class {i}", (20 * i, 255 - 20 * i, 40)) for i in range(11))
TARGETS = {"openvino": 21.0, "tflite": 48.0, "onnxruntime": 34.0}
PRECISIONS = {"fp32": (1.0, 0.0, 1.42), "fp16": (0.99, 0.01, 0.74), "int8": (0.55, 0.64, 0.48)}
DISTURBED = "other processes took 23% of the cores (at most 10%)"


def run(target: str, precision: str) -> dict[str, Any]:
    rng = np.random.default_rng([len(target), ord(precision[-1])])
    speed, drop, size = PRECISIONS[precision]
    p50, drop = TARGETS[target] * speed, drop * float(rng.uniform(0.6, 1.4))
    scores = np.linspace(90, 45, len(CLASSES)) - drop * rng.uniform(0, 4, len(CLASSES))
    parity: dict[str, Any] = {"metric": "miou", "reference": 68.31, "engine": 68.31 - drop, "drop": drop}
    parity |= {"agreement": 1 - drop / 80, "images": 48, "data": "streets:48@240x320"}
    parity["per_class"] = {c.name: float(v) for c, v in zip(CLASSES, scores, strict=True)}
    parity["passed"] = (target, precision) != ("tflite", "int8")
    if precision == "int8":
        parity["quantization"] = {"agreement": 0.991, "drop": 0.55}
        parity["engine_error"] = {"agreement": 0.998, "drop": -0.03}
    times = {"p50": p50, "p90": p50 * 1.05, "p99": p50 * 1.3, "mean": p50 * 1.02, "n": 141}
    found: dict[str, Any] = {"artifact": f"enet-{target}-{precision}", "model": "enet", "target": target}
    found |= {"precision": precision, "parity": parity, "latency_ms": times, "fps": 1000 / p50}
    found |= {"throughput_fps": 980 / p50, "peak_memory_mb": 118.2, "size_mb": size}
    found["stages_ms"] = {"preprocess": 0.0013, "infer": p50, "postprocess": 0.0009}
    return {**found, "validity": validity([] if precision != "fp16" else [DISTURBED])}


def validity(reasons: list[str]) -> dict[str, Any]:
    cpu = {"model": "AMD EPYC", "board": None, "cores": 2, "usable_cores": 2, "flags": ["avx2"]}
    return {
        "valid": not reasons,
        "reasons": reasons,
        "cpu": {**cpu, "governor": None, "min_mhz": None, "max_mhz": None},
        "threads": 2,
        "load_average": {"before": 0.4, "after": 1.2},
        "other_work": {"processes": 0.23, "hypervisor": 0.0},
        "drift": -0.01,
        "temperatures_c": {"before": {}, "after": {}},
        "toolchain": {"openvino": {"built": "2026.3.0", "installed": "2026.4.1"}},
        "python": "3.11.7",
        "platform": "Linux-x86_64",
        "utc": "2026-11-24T00:23:47+00:00",
    }


def runs() -> list[dict[str, Any]]:
    return [run(target, precision) for target in TARGETS for precision in PRECISIONS]


def overlay(name: str = "openvino int8", wrong: int = 27, truth: bool = True) -> Overlay:
    """90×120, ``wrong`` pixels of it (at most 100) not as PyTorch has them."""
    rng = np.random.default_rng(3)
    frame = np.full((90, 120, 3), (120, 140, 160), np.uint8) + rng.integers(0, 40, (90, 120, 3), np.uint8)
    reference = np.repeat(np.repeat(rng.integers(0, 11, (9, 12), np.uint8), 10, 0), 10, 1)
    engine = reference.copy()
    engine[10, :wrong] = (engine[10, :wrong] + 1) % 11
    return Overlay("street 7", frame, reference, engine, reference if truth else None, CLASSES, name)


def rows(html: str) -> list[list[str]]:
    """The text of the main table's body, by row."""
    body = re.findall(r'<table class="matrix">.*?<tbody>(.*?)</tbody>', html, re.S)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for table in body for row in table.split("</tr>")]
    return [[re.sub(r"<[^>]+>", "", cell) for cell in row] for row in cells if row]


def test_the_table_has_a_row_for_each_run_with_its_figures() -> None:
    found = rows(page(runs(), []))
    assert [row[:2] for row in found] == [[r["target"], r["precision"]] for r in runs()]
    for row, r in zip(found, runs(), strict=True):
        p = r["parity"]
        assert row[2:5] == ["68.31", f"{p['engine']:.2f}", f"{p['drop']:.2f}"]
        assert row[5] == f"{100 * p['agreement']:.2f}"
        assert row[6:8] == (["0.55", "−0.03"] if r["precision"] == "int8" else ["–", "–"])
        assert row[8].lstrip("≈") == f"{r['latency_ms']['p50']:.1f}"
        assert row[8].startswith("≈") == (r["precision"] == "fp16")
        assert row[-1] == ("pass" if p["passed"] else "fail")


def test_absent_parts_leave_their_columns_out() -> None:
    timed = [{k: v for k, v in r.items() if k != "parity"} for r in runs()]
    judged = [{k: r[k] for k in ("artifact", "model", "target", "precision", "parity")} for r in runs()]
    unlabelled = [{**r, "parity": {"agreement": 0.99, "passed": True, "images": 3}} for r in timed]
    assert len(rows(page(timed, []))[0]) == 7
    assert "timed and not judged" in page(timed, [])
    assert len(rows(page(judged, []))[0]) == 9
    assert '<svg viewBox="0 0' not in page(judged, [])
    assert "agreement with PyTorch, %" in page(unlabelled, [])
    assert len(rows(page([{"artifact": "bare"}], []))) == 1


def test_infinite_and_unknown_figures_are_shown_as_absent() -> None:
    odd = run("openvino", "fp32")
    odd["parity"] |= {"sqnr_db": float("inf"), "drop": float("nan"), "engine": None}
    odd["peak_memory_mb"] = None
    html = page([odd], [])
    assert "inf" not in re.sub(r"infer|info", "", html[html.index("<main>") : html.index("<script>")])
    assert "nan" not in html[html.index("<main>") : html.index("<script>")]


def test_several_networks_get_a_table_each() -> None:
    html = page([*runs(), {**run("tflite", "int8"), "model": "unet"}], [])
    assert "enet: engines" in html
    assert "unet: engines" in html
    assert len(rows(html)) == 10


@pytest.mark.parametrize(("passed", "words"), [
    ([True] * 9, "All 9 engines see what the network saw."), ([True], "The engine sees what the network saw."),
    ([True, False], "1 of 2 engines no longer sees what the network saw."),
    ([False] * 3, "3 of 3 engines no longer see what the network saw."),
])  # fmt: skip
def test_the_verdict_counts(passed: list[bool], words: str) -> None:
    assert summary.verdict([{"parity": {"passed": p}} for p in passed]) == words


def test_text_from_runs_cannot_become_markup() -> None:
    evil = '"><script>alert(1)</script><img src=http://x/y onerror=alert(1)>'
    bad = run("openvino", "fp32")
    for key in ("artifact", "model", "target", "precision"):
        bad[key] = evil
    bad["parity"]["data"] = bad["validity"]["cpu"]["model"] = bad["validity"]["utc"] = evil
    bad["parity"]["per_class"] = {evil: 50.0}
    bad["validity"] |= validity([evil]) | {"toolchain": {evil: {"built": evil, "installed": evil}}}
    named = tuple(replace(c, name=evil) for c in CLASSES)
    html = page([bad], [replace(overlay(), title=evil, name=evil, classes=named)])
    assert "<img src=http" not in html
    assert html.count("<script>") == 1
    assert evil not in html


def test_nothing_comes_from_elsewhere() -> None:
    html = page(runs(), [overlay()])
    named = re.findall(r"(?:src|href)=[\"']?([^\"'\s>]+)", html) + re.findall(r"url\(([^)]+)\)", html)
    assert len(named) > 5
    assert [address[:40] for address in named if not address.startswith("data:")] == []
    assert "default-src 'none'" in html


def test_a_failing_write_leaves_the_old_report(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report.html"
    write_report(runs(), [overlay()], out)
    before = out.read_bytes()
    with pytest.raises(ValueError, match="shape"):
        write_report(runs(), [replace(overlay(), engine=np.zeros((3, 5), np.uint8))], out)
    with pytest.raises(InputError, match="at least one run"):
        write_report([], [], out)
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def embedded(html: str, kind: str) -> list[Image.Image]:
    found = re.findall(rf'class="{kind}"[^>]*src="data:image/png;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def test_label_maps_are_drawn_in_the_classes_colours() -> None:
    shown = overlay()
    shown.engine[0, 0] = 200
    truth, reference, engine = (np.asarray(i.convert("RGBA")) for i in embedded(page(runs(), [shown]), "mask"))
    colors = np.array([c.color for c in CLASSES], np.uint8)
    assert (truth[..., :3] == colors[shown.reference]).all()
    assert (reference[..., :3] == colors[shown.reference]).all()
    assert (engine[1:, :, :3] == colors[shown.engine[1:]]).all()
    assert engine[0, 0, 3] == 0
    assert (engine[..., 3] == 255).sum() == engine[..., 3].size - 1


def test_every_pixel_that_differs_is_counted_and_marked() -> None:
    shown = overlay(wrong=27)
    html = page(runs(), [shown])
    (hits,) = (np.asarray(i.convert("RGBA"))[..., 3] > 0 for i in embedded(html, "hits"))
    assert "27 of 10\N{THIN SPACE}800 pixels differ" in html
    assert (hits == shown.differs).all()


def test_in_a_large_frame_what_differs_is_drawn_wider() -> None:
    reference = np.zeros((10, 1280), np.uint8)
    engine = reference.copy()
    engine[5, 600] = 1
    large = Overlay("wide", np.zeros((10, 1280, 3), np.uint8), reference, engine, None, CLASSES)
    html = page(runs(), [large])
    (hits,) = (np.asarray(i.convert("RGBA"))[..., 3] > 0 for i in embedded(html, "hits"))
    assert hits.sum() == hits[3:8, 598:603].sum() == 25
    assert "differs, drawn 2 px wider" in html
    assert "1 of 12\N{THIN SPACE}800 pixels differ" in html


def test_a_frame_is_embedded_once_for_all_its_engines_and_the_worst_come_first() -> None:
    many = [overlay(f"engine {wrong}", wrong) for wrong in (3, 40, 11, 0, 25)]
    html = page(runs(), many)
    assert html.count("data:image/jpeg") == 1
    assert re.findall(r"<h4>engine (\d+)</h4>", html) == ["40", "25", "11", "3", "0"]
    assert "2 more, closer to PyTorch" in html


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "report.html"
    write_report(runs(), [overlay(), overlay("tflite int8", 9), overlay("onnxruntime int8", 60)], out)
    return out


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    if chromium.BINARY is None:
        pytest.skip("no Chromium here: the report's page is not tried in a browser")
    with chromium.browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1440])
def test_a_browser_shows_it_whole(browser: chromium.Browser, report: Path, width: int, dark: bool) -> None:
    browser.open(report, width=width, dark=dark)
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.complaints() == []
    assert browser.requests() == [report.resolve().as_uri()]
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.querySelectorAll('.matrix tbody tr').length") == 9
    assert browser.evaluate("[...document.images].every(i => i.complete && i.naturalWidth === 120)")
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(19, 19, 18)" if dark else "rgb(250, 249, 246)")


OVERLAPS = """(() => {
  const box = [...document.querySelectorAll("svg .label")].map(e => e.getBoundingClientRect()).filter(b => b.width);
  const meets = (a, b) => a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom;
  return [box.length, box.filter((a, i) => box.some((b, j) => j < i && meets(a, b))).length];
})()"""


@pytest.mark.parametrize("width", [390, 1440])
def test_all_plot_labels_are_there_and_apart_in_the_browsers_own_font(
    browser: chromium.Browser, report: Path, width: int
) -> None:
    browser.open(report, width=width)
    assert browser.evaluate(OVERLAPS) == [9, 0]


def column(browser: chromium.Browser, index: int) -> list[str]:
    cells = f"[...document.querySelectorAll('.matrix tbody tr')].map(r => r.cells[{index}].dataset.value)"
    found: list[str] = browser.evaluate(cells)
    return found


def test_a_click_on_a_header_sorts(browser: chromium.Browser, report: Path) -> None:
    browser.open(report)
    head = "[...document.querySelectorAll('.matrix th[data-sort]')].find(h => h.textContent === 'p50')"
    before = column(browser, 8)
    for order, key in (("ascending", 1), ("descending", -1)):
        browser.evaluate(f"{head}.querySelector('button').click()")
        assert browser.evaluate(f"{head}.ariaSort") == order
        assert column(browser, 8) == sorted(before, key=lambda v: key * float(v))
    browser.evaluate("document.querySelectorAll('.matrix th[data-sort]')[6].querySelector('button').click()")
    assert column(browser, 6) == ["0.55"] * 3 + [""] * 6


def test_it_reads_without_javascript(browser: chromium.Browser, report: Path) -> None:
    browser.open(report, script=False)
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.evaluate("document.querySelectorAll('.matrix tbody tr').length") == 9
    assert browser.evaluate("document.querySelectorAll('.matrix button').length") == 0
