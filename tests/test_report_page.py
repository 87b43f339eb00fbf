"""The pieces of the report's page: a plot whose labels keep apart, figures as printed, colours with contrast."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeseg.benchmarks.report_page import plot
from edgeseg.benchmarks.report_page.text import digits_for, number

ROOT = Path(__file__).parents[1]


@given(st.lists(st.tuples(st.floats(0.01, 500), st.floats(20, 100)), min_size=1, max_size=24))
def test_plot_labels_never_overlap_and_stay_inside(spots: list[tuple[float, float]]) -> None:
    points = [plot.Point(x, y, "onnxruntime fp32", i % 6, "fp32") for i, (x, y) in enumerate(spots)]
    for width, height in ((1160, 460), (350, 380)):
        drawn = plot.scatter(points, 90.0, "mIoU, points", width, height)
        assert drawn.count('class="mark') == len(points)
        found = re.findall(r'class="label c\d" x="([\d.]+)" y="([\d.]+)"', drawn)
        places = [(float(x), float(y)) for x, y in found]
        size = plot.CHARACTER * len("onnxruntime fp32"), plot.TEXT_HEIGHT
        boxes = [plot.Box(x, y - 11.5, *size) for x, y in places]
        assert boxes or len(points) > 8
        assert all(plot.Box(0, 0, width, height).holds(box) for box in boxes)
        close = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.meets(b)]
        # Coordinates are printed with one decimal.
        assert all(min(abs(a.left - b.left) - size[0], 0) > -0.11 or
                   abs(a.top - b.top) > size[1] - 0.11 for a, b in close)  # fmt: skip


@given(st.floats(0, 1e4), st.floats(0.01, 1e4), st.integers(3, 9))
def test_ticks_are_round_evenly_spaced_and_inside(low: float, span: float, about: int) -> None:
    found = plot.ticks(low, low + span, about)
    steps = np.diff(found)
    assert 2 <= len(found) <= max(about + 1, 6)
    assert np.allclose(steps, steps[0])
    assert low - 1e-6 * span <= found[0]
    assert found[-1] <= low + span * (1 + 1e-6)
    assert f"{steps[0]:e}"[0] in "125"


def test_numbers_as_printed() -> None:
    assert [number(v, 2) for v in (None, -0.001, -1.5, 12345.678)] == ["–", "0.00", "−1.50", "12\N{THIN SPACE}345.68"]
    assert [digits_for(v) for v in ([], [12.3, 400.0], [1.2, None], [0.0013], [30.0])] == [0, 1, 2, 4, 0]


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_contrast_in_both_schemes(scheme: int) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1."""
    css = (ROOT / "benchmarks/report_page/page.css").read_text(encoding="utf-8")
    block = css.split("prefers-color-scheme: dark")[scheme]
    colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block))
    for name in ("ink", "soft", "good", "bad", "c0", "c1", "c2", "c3", "c4", "c5"):
        for ground in ("paper", "wash"):
            high, low = sorted((luminance(colors[name]), luminance(colors[ground])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (name, ground)
