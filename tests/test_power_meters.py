"""An external meter's CSV; NVML: the library where it does not start, and a stand-in for cards (none at hand)."""

from __future__ import annotations

import re
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeseg.benchmarks import power
from edgeseg.benchmarks.power.sources._csv_rows import parse
from edgeseg.errors import DeviceError, InputError, MissingExtra

ROWS = "monotonic_s,power_w\n1.5,10\n2.5,12.25\n"


def test_columns_and_units() -> None:
    found = parse(ROWS)
    assert (found.clock, found.counter) == ("monotonic_s", False)
    np.testing.assert_array_equal(found.times, [1.5, 2.5])
    np.testing.assert_array_equal(found.values, [10, 12.25])
    np.testing.assert_allclose(parse("unix_s,power_mw\n1,1500\n").values, [1.5])
    np.testing.assert_allclose(parse("note, voltage_v , unix_s,current_a\nx,12.0,1,0.5\n").values, [6])
    assert parse("unix_s,energy_j\n1,3\n").counter
    assert parse("\ufeffunix_s,power_w\r\n1,3\r\n").values == [3]


def test_times_in_utc() -> None:
    text = "utc,power_w\n2026-11-25T14:05:06.789Z,1\n2026-11-25 16:05:07+02:00,1\n"
    seconds = datetime(2026, 11, 25, 14, 5, 6, tzinfo=timezone.utc).timestamp()
    np.testing.assert_allclose(parse(text).times, [seconds + 0.789, seconds + 1], atol=1e-6)


def test_a_line_that_is_being_written_is_left_out() -> None:
    assert len(parse(ROWS + "3.5,1").times) == 2
    assert len(parse("unix_s,power_w\n").times) == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must name one column of time"),
        ("1.5,10\n", "must name one column of time"),
        ("time,power\n1,2\n", "must name one column of time"),
        ("unix_s,utc,power_w\n1,2,3\n", "must name one column of time"),
        ("unix_s,watts\n1,2\n", "must name one column of power"),
        ("unix_s,power_w,power_mw\n1,2,2000\n", "must name one column of power"),
        ("unix_s,power_w,power_w\n1,2,2\n", "must name one column of power"),
        ("unix_s,voltage_v\n1,2\n", "must name one column of power"),
        ("unix_s;power_w\n1;2\n", "must name one column of time"),
        ("unix_s,power_w\n1,2,3\n", "line 2 has 3 fields, the header 2"),
        ("unix_s,power_w\n1,2\n\n", "line 3 has 0 fields"),
        ('unix_s,power_w\n1,"2,5"\n', "line 2: '2,5' is no number"),
        ("unix_s,power_w\n1,nan\n", "line 2: 'nan' is no number"),
        ("unix_s,power_w\n1,inf\n", "is no number"),
        ("unix_s,power_w\n1_0,2\n", "is no number"),
        ("unix_s,power_w\n1,٢\n", "is no number"),
        ("unix_s,power_w\n1,2 W\n", "is no number"),
        ("utc,power_w\n2026-11-25T14:05:06,2\n", "is no time like"),
        ("utc,power_w\n2026-13-25T14:05:06Z,2\n", "month must be in"),
    ],
)
def test_another_form_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        parse(text)


NUMBERS = st.text("0123456789.,-e_\n", max_size=30)


@settings(max_examples=10_000)
@given(st.text(max_size=60) | NUMBERS, st.sampled_from(["unix_s,power_w\n", "utc,energy_j\n", ""]))
def test_arbitrary_text_gives_no_wrong_number(text: str, header: str) -> None:
    try:
        found = parse(header + text)
    except InputError:
        return
    fields = {field.strip() for field in re.split(r'[,"\r\n]', header + text)}
    numbers = {float(f) for f in fields if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", f)}
    assert {*found.values} <= numbers


@settings(max_examples=500)
@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e5)), max_size=8))
def test_what_was_written_is_read(rows: list[tuple[float, float]]) -> None:
    text = "".join(f"{seconds:.6f},{watts:.6f}\n" for seconds, watts in rows)
    found = parse("unix_s,power_w\n" + text)
    np.testing.assert_allclose(found.times, [seconds for seconds, _ in rows], atol=1e-6)
    np.testing.assert_allclose(found.values, [watts for _, watts in rows], atol=1e-6)


@pytest.mark.parametrize("clock", ["monotonic_s", "unix_s", "utc"])
def test_a_file_that_grows_meanwhile_is_integrated(clock: str, tmp_path: Path) -> None:
    path, done = tmp_path / "meter.csv", threading.Event()
    path.write_text(f"{clock},voltage_v,current_a\n")

    def write() -> None:
        while not done.wait(0.02):
            now = time.time() if clock != "monotonic_s" else time.monotonic()
            stamp = datetime.fromtimestamp(now, timezone.utc).isoformat() if clock == "utc" else f"{now:.6f}"
            with path.open("a") as file:
                file.write(f"{stamp},12,0.5\n")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with power.open_meter(f"csv:{path}") as meter:
            time.sleep(0.1)
            for _ in range(10):  # on a busy machine the writer may not get its turn for long
                found = meter.idle(0.6)
                if not found.reasons:
                    break
    finally:
        done.set()
        thread.join()
    assert found.reasons == ()
    assert found.average_w == pytest.approx(6.0)
    assert found.covers == "what the external meter of meter.csv measures"


def test_a_file_that_ends_too_soon_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeseg.benchmarks.power.sources.csv.PATIENCE_S", 0.1)
    path = tmp_path / "meter.csv"
    path.write_text("monotonic_s,power_w\n1,2\n2,2\n")
    with power.open_meter(f"csv:{path}") as meter:
        found = meter.idle(0.05)
        path.write_text("monotonic_s,power_w\n2,2\n1,2\n")
        fallen = meter.idle(0.05)
        path.write_bytes(b"monotonic_s,power_w\n\xff,2\n")
        broken = meter.idle(0.05)
        path.unlink()
        gone = meter.idle(0.05)
    assert found.joules is None
    assert any("ends before the measurement" in reason for reason in found.reasons)
    assert "meter.csv: its times do not rise" in fallen.reasons[0]
    assert "can't decode byte" in broken.reasons[0]
    assert "No such file" in gone.reasons[0]
    assert [energy.joules for energy in (fallen, broken, gone)] == [None, None, None]


def test_a_wrong_header_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "meter.csv"
    path.write_text("time,power\n")
    with pytest.raises(InputError, match=r"meter\.csv: its first line must name one column of time"):
        power.open_meter(f"csv:{path}")
    path.write_text("unix_s,pow")  # the header itself is being written
    assert power.open_meter(f"csv:{path}").rails == ("meter",)


class NotSupported(Exception):
    """Stands in for the library's."""


class Cards:
    """Stands in for pynvml and the cards behind it: the calls that edgeseg makes, as NVIDIA documents them."""

    NVML_FI_DEV_POWER_INSTANT, NVML_SUCCESS, NVML_VALUE_TYPE_UNSIGNED_INT = 186, 0, 1
    NVMLError, NVMLError_NotSupported = NotSupported, NotSupported

    def __init__(self, count: int, answers: set[str]) -> None:
        self.count, self.answers, self.open, self.begun = count, answers, 0, time.perf_counter()

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return f"Card {handle}"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        """80 W, counted every tenth of a second."""
        if "energy" not in self.answers:
            raise NotSupported
        return 10**9 + 8000 * int((time.perf_counter() - self.begun) / 0.1)

    def nvmlDeviceGetFieldValues(self, handle: int, fields: list[int]) -> list[SimpleNamespace]:
        code = 0 if "instant" in self.answers else 3
        return [SimpleNamespace(nvmlReturn=code, valueType=1, value=SimpleNamespace(uiVal=70_000))]

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        if "average" not in self.answers:
            raise NotSupported
        return 60_000


@pytest.mark.parametrize(
    ("answers", "watts"),
    [({"energy", "instant", "average"}, 80.0), ({"instant", "average"}, 70.0), ({"average"}, 60.0)],
)
def test_a_cards_counter_comes_before_its_power(
    answers: set[str], watts: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = Cards(1, answers)
    monkeypatch.setitem(sys.modules, "pynvml", cards)
    with power.open_meter("nvml", interval_s=0.01) as meter:
        time.sleep(0.15)
        for _ in range(5):  # on a busy machine a thread may not get its turn for long
            found = meter.idle(2.0)
            if not found.reasons:
                break
    assert found.reasons == ()
    assert found.average_w == pytest.approx(watts, rel=0.05)
    assert found.covers == "Card 0, the card alone"
    assert cards.open == 0


def test_a_jetson_is_told_that_nvml_has_no_power(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = Cards(1, set())
    monkeypatch.setitem(sys.modules, "pynvml", cards)
    with pytest.raises(DeviceError, match=r"neither energy nor power .* use ina"):
        power.open_meter("nvml")
    seen = power.look("nvml")
    assert seen is not None
    assert not seen.ok
    assert cards.open == 0


def test_one_of_several_cards_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = Cards(2, {"energy"})
    monkeypatch.setitem(sys.modules, "pynvml", cards)
    with pytest.raises(InputError, match="say which, nvml:0 to nvml:1"):
        power.open_meter("nvml")
    with pytest.raises(InputError, match="no GPU 2"):
        power.open_meter("nvml:2")
    assert power.open_meter("nvml:1").rails == ("GPU 1",)


def test_the_library_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        with pytest.raises(DeviceError, match="NVML does not start"):
            power.open_meter("nvml")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MissingExtra, match=r"edgeseg\[nvml\]"):
        power.open_meter("nvml")
