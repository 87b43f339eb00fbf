"""The energy integral on traces whose truth is known: within 1 %, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeseg.benchmarks.power import Energy, Meter
from edgeseg.benchmarks.power._wall_clock import WallClock
from edgeseg.benchmarks.power.total import Total
from edgeseg.benchmarks.power.trace import Trace, unwrap
from edgeseg.errors import InputError

Floats = NDArray[np.float64]
Power = Callable[[Floats], Floats]
FINE = np.linspace(0, 60, 600_001)
START, STOP = 7.123, 52.456


def constant(time: Floats) -> Floats:
    return np.full_like(time, 12.5)


def steps(time: Floats) -> Floats:
    """Idle, load, burst: eleven steps that fall between samples."""
    return 5.0 + 15.0 * ((time % 9.37) > 4.1) + 4.0 * ((time % 7.77) > 6.3)


def ramp(time: Floats) -> Floats:
    return 3.0 + 0.4 * time


def throttling(time: Floats) -> Floats:
    return 8.0 + 12.0 * np.exp(-time / 20) + np.sin(time)


POWERS = [constant, steps, ramp, throttling]


def truth(power: Power, start: float = START, stop: float = STOP) -> float:
    """By a million times finer steps than the meter's."""
    middle = start + (np.arange(1_000_000) + 0.5) * (stop - start) / 1_000_000
    return float(power(middle).mean() * (stop - start))


def count(power: Power, times: Floats) -> Floats:
    """Joules since 0 at each time."""
    watts = power(FINE)
    joules = np.concatenate([[0], np.cumsum((watts[1:] + watts[:-1]) / 2 * np.diff(FINE))])
    return np.asarray(np.interp(times, FINE, joules), np.float64)


@dataclass
class Recorded:
    """A recorder that holds a trace."""

    held: Trace
    total: Total
    name: str = "recorded"

    def __post_init__(self) -> None:
        self.rails = self.held.rails

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def trace(self, until: float) -> Trace:
        return self.held


def measured(
    times: Floats, values: Floats, start: float = START, stop: float = STOP, counter: bool = False,
    problems: tuple[str, ...] = (),
) -> Energy:  # fmt: skip
    trace = Trace(("a",), times, values[:, None], counter, problems)
    return Meter(Recorded(trace, Total(("a",), "all of it"))).energy(start, stop)


def sampled(interval: float = 0.1, jitter: float = 0.2, seed: int = 0) -> Floats:
    """Times of samples from 0 to 60 s that come as late as threads do."""
    times = np.arange(0, 60, interval)
    return times + np.random.default_rng(seed).uniform(0, jitter * interval, len(times))


@pytest.mark.parametrize("power", POWERS)
def test_samples_of_power(power: Power) -> None:
    times = sampled()
    found = measured(times, power(times))
    assert found.joules == pytest.approx(truth(power), rel=0.01)
    assert found.average_w == pytest.approx(truth(power) / (STOP - START), rel=0.01)
    assert found.peak_w == pytest.approx(power(np.linspace(START, STOP, 10_000)).max(), rel=0.01)
    assert found.reasons == ()
    assert found.coverage == pytest.approx(1)


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("seed", range(5))
def test_dropped_samples(power: Power, seed: int) -> None:
    rng, times = np.random.default_rng(seed), sampled(seed=seed)
    kept = times[rng.random(len(times)) > 0.2]
    found = measured(kept, power(kept))
    assert found.joules == pytest.approx(truth(power), rel=0.01)


@pytest.mark.parametrize(("start", "stop"), [(7.123, 8.456), (20.0, 20.99), (0.5, 59.5)])
def test_the_window_is_cut_exactly(start: float, stop: float) -> None:
    times = sampled(0.02)
    assert measured(times, ramp(times), start, stop).joules == pytest.approx(truth(ramp, start, stop), rel=1e-3)


def test_a_gap_that_could_hide_energy_refuses_the_total() -> None:
    times = sampled()
    kept = times[(times < 20) | (times > 26)]
    found = measured(kept, constant(kept))
    assert found.joules is None
    assert found.reasons == ("readings cover 87% of the window (at least 90%)",)


def test_a_window_outside_the_trace_is_not_covered() -> None:
    times = sampled()
    assert measured(times, constant(times), 50, 70).joules is None
    assert measured(times, constant(times), 70, 80).joules is None
    assert measured(times[:1], constant(times[:1])).reasons == ("fewer than two readings",)
    assert measured(times[:0], constant(times[:0])).reasons == ("fewer than two readings",)


def test_too_short_a_window_is_refused_not_guessed() -> None:
    times = sampled()
    found = measured(times, constant(times), 10.0, 10.5)
    assert (found.joules, found.average_w, found.peak_w) == (None, None, None)
    assert found.reasons == ("5 readings within the window (at least 10): measure for longer",)


def test_power_that_jumps_from_sample_to_sample_is_refused_where_it_is_short() -> None:
    times = sampled()
    watts = np.where(np.arange(len(times)) % 2, 1.0, 20.0)
    assert any("sampling leaves" in reason for reason in measured(times, watts, 10, 11.5).reasons)


def test_a_sensor_that_reads_nothing_is_no_energy() -> None:
    times = sampled()
    assert measured(times, 0 * times).reasons == ("the sensor read 0 W throughout",)
    assert measured(times, 0 * times, counter=True).joules is None


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("range_j", [100.0, 37.123, 1e9])
def test_counters_that_wrap(power: Power, range_j: float) -> None:
    times = sampled(0.05)
    joules, problems = unwrap(times, (count(power, times) % range_j)[:, None], np.array([range_j]))
    found = measured(times, joules[:, 0], counter=True, problems=problems)
    assert found.joules == pytest.approx(truth(power), rel=0.01)
    assert (found.reasons, problems) == ((), ())


@pytest.mark.parametrize("power", POWERS)
def test_counters_that_are_updated_seldom(power: Power) -> None:
    times = sampled(0.02)
    stairs = count(power, np.floor(times / 0.1) * 0.1)
    found = measured(times, stairs, counter=True)
    assert found.joules == pytest.approx(truth(power), rel=0.01)
    assert found.peak_w == pytest.approx(power(np.linspace(START, STOP, 10_000)).max(), rel=0.06)


def test_a_counter_counts_through_a_gap() -> None:
    times = sampled(0.05)
    kept = times[(times < 20) | (times > 26)]
    assert measured(kept, count(steps, kept), counter=True).joules == pytest.approx(truth(steps), rel=0.01)


def test_a_counter_that_was_set_back_refuses_the_total() -> None:
    times = sampled(0.05)
    readings = count(steps, times) + 3000
    readings[400:] -= readings[400]
    joules, problems = unwrap(times, readings[:, None], np.array([262_143.0]))
    found = measured(times, joules[:, 0], counter=True, problems=problems)
    assert found.joules is None
    assert "an energy counter was set back" in found.reasons[0]


@settings(max_examples=300)
@given(st.integers(0, 10_000), st.floats(0, 0.6), st.floats(0.05, 0.5), st.sampled_from(POWERS))
def test_what_is_told_is_right_or_its_error_says_so(seed: int, dropped: float, interval: float, power: Power) -> None:
    times = sampled(interval, 0.5, seed)
    kept = times[np.random.default_rng(seed).random(len(times)) >= dropped]
    found = measured(kept, power(kept))
    if found.joules is None:
        assert found.reasons
        return
    assert found.error is not None
    assert abs(found.joules / truth(power) - 1) < max(0.01, 2 * found.error)


class Clocks:
    """A steady clock and a wall clock that is set by ``jump`` seconds at 30 s."""

    def __init__(self, jump: float) -> None:
        self.now, self.jump = 0.0, jump

    def wall(self) -> float:
        return float(self.walls(np.array([self.now]))[0])

    def walls(self, times: Floats) -> Floats:
        return 1_700_000_000 + times + self.jump * (times >= 30.04)

    def noted(self) -> WallClock:
        clock = WallClock(self.wall, lambda: self.now)
        for tenth in range(601):
            self.now = tenth / 10
            clock.note()
        return clock


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("jump", [0.0, 3600.0, 7.5, 0.3, -0.5, -20.0, -3600.0])
def test_a_wall_clock_that_is_set_meanwhile(power: Power, jump: float) -> None:
    clocks, times = Clocks(jump), sampled()
    clock = clocks.noted()
    found = clock.steady(clocks.walls(times))
    np.testing.assert_allclose(found, times, atol=1e-3)
    assert measured(found, power(times)).joules == pytest.approx(truth(power), rel=0.01)


@pytest.mark.parametrize("jump", [3600.0, 7.5, -20.0, -3600.0])
def test_another_machines_clock_that_was_not_set_is_refused(jump: float) -> None:
    clock, times = Clocks(jump).noted(), sampled()
    with pytest.raises(InputError, match="use monotonic_s"):
        clock.steady(1_700_000_000 + times)


def test_times_that_go_back_without_a_reason_are_refused() -> None:
    clock, times = Clocks(0).noted(), 1_700_000_000 + sampled()
    times[[100, 101]] = times[[101, 100]]
    with pytest.raises(InputError, match="do not rise from row 101"):
        clock.steady(times)


def test_the_total_is_of_the_rails_chosen_and_idle_is_taken_off_on_request() -> None:
    times = sampled()
    trace = Trace(("a", "b", "c"), times, np.stack([constant(times), ramp(times), 7 + 0 * times], axis=1))
    meter = Meter(Recorded(trace, Total(("a", "c"), "two")))
    idle = meter.energy(1, 5)
    found = meter.energy(START, STOP, idle=idle)
    assert found.joules == pytest.approx(19.5 * (STOP - START))
    assert found.rails is not None
    assert found.rails["b"] == pytest.approx(truth(ramp), rel=1e-6)
    assert found.idle_w == pytest.approx(19.5)
    assert found.above_idle_j == pytest.approx(0, abs=1e-6)
    assert found.mj_per_frame(100) == pytest.approx(195 * (STOP - START))
    assert found.mj_per_frame(100, above_idle=True) == pytest.approx(0, abs=1e-3)
    with pytest.raises(ValueError, match="0 frames"):
        found.mj_per_frame(0)
    other = Meter(Recorded(trace, Total(("a",), "one")))
    with pytest.raises(InputError, match="with the same meter"):
        other.energy(START, STOP, idle=idle)
    for start, stop in [(5.0, 5.0), (5.0, 4.0), (float("nan"), 4.0)]:
        with pytest.raises(InputError, match="no window"):
            meter.energy(start, stop)


def test_a_refused_total_still_tells_the_rails() -> None:
    times = sampled()
    found = Meter(Recorded(Trace(("a",), times, ramp(times)[:, None]), Total((), "rails", "not known"))).energy(1, 9)
    assert (found.joules, found.average_w, found.peak_w, found.mj_per_frame(3)) == (None, None, None, None)
    assert found.reasons == ("not known",)
    assert found.rails == pytest.approx({"a": truth(ramp, 1, 9)}, rel=1e-6)
    assert "joules" not in json.loads(json.dumps(found.json()))
