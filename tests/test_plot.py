"""The report's plot: round ticks, and labels that keep apart wherever the points fall."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeseg.benchmarks.report_page import plot


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
