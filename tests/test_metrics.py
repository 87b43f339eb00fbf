"""The metrics, against their definitions written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.metrics import agreement, confusion, jackknife, miou, sqnr_db

CLASSES = 4
Map = NDArray[np.uint8]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Map, Map]:
    """Two label maps of one size."""
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    first, second = (rng.integers(0, draw(st.integers(1, CLASSES)), shape).astype(np.uint8) for _ in range(2))
    return first, second


@given(pairs(), st.sampled_from([None, 0, CLASSES - 1, 255]))
def test_confusion_counts_each_scored_pixel_once(maps: tuple[Map, Map], ignore: int | None) -> None:
    truth, answer = maps
    counts = confusion(truth, answer, CLASSES, ignore)
    expected = np.zeros((CLASSES, CLASSES), np.int64)
    for t, a in zip(truth.ravel(), answer.ravel(), strict=True):
        expected[t, a] += t != ignore
    np.testing.assert_array_equal(counts, expected)
    assert counts.dtype == np.int64


@given(pairs())
def test_miou_is_the_mean_over_classes_that_occur(maps: tuple[Map, Map]) -> None:
    truth, answer = maps
    mean, each = miou(confusion(truth, answer, CLASSES))
    expected = []
    for c in range(CLASSES):
        if not (truth == c).any():
            assert math.isnan(each[c])
            continue
        expected.append(100 * ((truth == c) & (answer == c)).sum() / ((truth == c) | (answer == c)).sum())
        assert each[c] == pytest.approx(expected[-1])
    assert mean == pytest.approx(np.mean(expected))


@given(pairs())
def test_the_order_of_classes_does_not_matter(maps: tuple[Map, Map]) -> None:
    order = np.array([2, 0, 3, 1], np.uint8)
    plain = miou(confusion(*maps, CLASSES))
    renamed = miou(confusion(order[maps[0]], order[maps[1]], CLASSES))
    assert renamed[0] == pytest.approx(plain[0])
    np.testing.assert_allclose(renamed[1][order], plain[1])


@given(pairs())
def test_truth_itself_scores_a_hundred(maps: tuple[Map, Map]) -> None:
    assert miou(confusion(maps[0], maps[0], CLASSES))[0] == 100
    assert agreement(maps[0], maps[0]) == 1


def test_predicting_the_ignored_class_is_an_error_where_a_label_stands() -> None:
    truth, answer = np.array([[0, 0, 1, 3]]), np.array([[0, 3, 1, 0]])  # 3 is void
    mean, each = miou(confusion(truth, answer, CLASSES, ignore_index=3))
    assert each[:2].tolist() == [50, 100]  # void under the last pixel forgives the prediction 0 there
    assert np.isnan(each[2:]).all()
    assert mean == 75
    assert miou(confusion(truth, answer, CLASSES), ignore_index=3)[0] == pytest.approx((100 / 3 + 100) / 2)


def test_nothing_to_score_is_nan() -> None:
    void = np.full((2, 2), 3)
    assert math.isnan(miou(confusion(void, void, CLASSES, ignore_index=3))[0])


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30))
def test_the_jackknife_of_a_mean_is_its_standard_error(values: list[float]) -> None:
    left_out = [(sum(values) - value) / (len(values) - 1) for value in values]
    assert jackknife(left_out) == pytest.approx(np.std(values, ddof=1) / math.sqrt(len(values)), abs=1e-9)


def test_one_group_tells_no_error() -> None:
    assert math.isnan(jackknife([])) and math.isnan(jackknife([50.0]))


@given(pairs())
def test_agreement_is_symmetric_and_what_confusion_says(maps: tuple[Map, Map]) -> None:
    assert agreement(*maps) == agreement(*maps[::-1])
    assert agreement(*maps) == pytest.approx(np.trace(confusion(*maps, CLASSES)) / maps[0].size)


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e3), st.floats(-3, 3).filter(lambda v: abs(v) > 1e-3))
def test_sqnr_is_the_ratio_of_powers_at_any_scale(seed: int, noise: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    signal, error = rng.standard_normal((2, 3, 40))
    value = signal + noise * error
    expected = 10 * math.log10((signal**2).sum() / ((signal - value) ** 2).sum())
    assert sqnr_db(signal, value) == pytest.approx(expected)
    assert sqnr_db(scale * signal, scale * value) == pytest.approx(expected, abs=1e-6)


def test_sqnr_at_its_ends() -> None:
    zero, one = np.zeros(3, np.float32), np.ones(3, np.float32)
    assert sqnr_db(one, one) == math.inf
    assert sqnr_db(zero, one) == -math.inf
    assert sqnr_db(one, zero) == 0


def test_what_cannot_be_compared_is_refused() -> None:
    small, wide = np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8)
    with pytest.raises(InputError, match=r"\[2, 2\].*\[2, 3\]"):
        confusion(small, wide, CLASSES)
    with pytest.raises(InputError, match=r"\[2, 2\].*\[2, 3\]"):
        agreement(small, wide)
    with pytest.raises(InputError, match=r"\[2, 2\].*\[2, 3\]"):
        sqnr_db(small, wide)
    with pytest.raises(InputError, match="label id 7 is none of 4 classes"):
        confusion(np.full((2, 2), 7), small, CLASSES)
    with pytest.raises(InputError, match="predicted id 4"):
        confusion(small, np.full((2, 2), 4), CLASSES)
