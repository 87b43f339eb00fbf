"""Where each calibrator clips: on distributions whose answer is known, and on any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.quantize.calibrators import calibrator, entropy, mse
from edgeseg.export.quantize.histogram import BINS, Histogram

FORMS = ("weighted", "mse", "minmax", "percentile", "percentile:99.9", "percentile:100", "entropy")


def histogram(*arrays: NDArray[np.float32] | NDArray[np.float64]) -> Histogram:
    found = Histogram()
    for values in arrays:
        found.add(values.astype(np.float32))
    return found


def slow_entropy(found: Histogram) -> float:
    """As the method's description has it, one candidate after the other."""
    counts, best = found.counts.astype(float), (np.inf, found.peak)
    used = int(np.ceil(found.peak / found.top * BINS))
    for kept in range(128, used + 1):
        p = counts[:kept].copy()
        p[-1] += counts[kept:].sum()
        part = np.arange(kept) * 128 // kept
        inside = np.bincount(part, counts[:kept], 128)
        inside[-1] = max(inside[-1], p[-1] > 0)  # the one case that it leaves open
        level = inside / np.maximum(np.bincount(part, p > 0, 128), 1)
        q = np.where(p > 0, level[part], 0)
        seen, p, q = p > 0, p / p.sum(), q / q.sum()
        divergence = float((p[seen] * np.log(p[seen] / q[seen])).sum())
        if divergence < best[0] - 1e-12:
            best = divergence, kept * found.top / BINS
    return min(found.peak, best[1])


def test_evenly_spread_values_are_not_clipped() -> None:
    even = histogram(np.random.default_rng(0).uniform(-1, 1, 100_000))
    for form in ("mse", "minmax", "percentile:100", "entropy"):
        assert calibrator(form)(even) > 0.98


def test_an_outlier_is_clipped_by_all_but_minmax() -> None:
    values = np.append(np.random.default_rng(0).normal(size=200_000), 100.0)
    spiked = histogram(values)
    assert calibrator("minmax")(spiked) == 100
    assert 3 < calibrator("percentile:99.9")(spiked) < 3.6  # 3.29 standard deviations, to the end of a bin
    assert 3.5 < calibrator("percentile")(spiked) < 4.5
    assert entropy(spiked) < 10
    assert mse(spiked) < 60


def test_percentile_of_values_that_are_known() -> None:
    ramp = histogram(np.linspace(0, 1, 1 << 16))
    for percent in (50, 75, 90, 99):
        assert calibrator(f"percentile:{percent}")(ramp) == pytest.approx(percent / 100, abs=2 / BINS)


@pytest.mark.parametrize("seed", range(3))
def test_entropy_is_that_of_the_method(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for values in (rng.normal(size=50_000), rng.laplace(size=9_000), np.maximum(rng.normal(size=900), 0)):
        found = histogram(values, values * 1.3)
        assert entropy(found) == slow_entropy(found)


@settings(max_examples=40)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=60), st.sampled_from(FORMS))
def test_ranges_lie_within_what_was_seen_and_scale_with_it(values: list[float], form: str) -> None:
    array = np.array(values, np.float32)
    find, found = calibrator(form), histogram(array)
    assert 0 <= find(found) <= found.peak
    assert (find(found) == 0) == (found.peak == 0)
    for power in (0.25, 8.0):  # exact in float32, so nothing changes bins
        scaled = histogram(array * np.float32(power))
        if found.peak > 1e-30:
            assert find(scaled) == pytest.approx(power * find(found), rel=1e-6)


@pytest.mark.parametrize("wrong", ["", "kl", "percentile:", "percentile:0", "percentile:101", "percentile:x", "mse:3"])
def test_what_is_no_calibrator_is_refused(wrong: str) -> None:
    with pytest.raises(InputError, match=r"no calibrator .*: use weighted, mse, minmax, percentile:P"):
        calibrator(wrong)


def test_values_that_are_not_finite_are_refused() -> None:
    for value in (np.inf, -np.inf, np.nan):
        with pytest.raises(ValueError, match="not finite"):
            histogram(np.array([1.0, value]))
