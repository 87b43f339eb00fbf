"""How a run of frames fares, on stderr: a bar with its frame rate on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

RECENT = 30  # frames that the live rate is of
LINES_S = 10.0  # between two lines where stderr is no terminal


class Meter:
    """``done`` frames, their ``fps`` of late and ``mean_fps`` since the first; 0 before there are two of them."""

    def __init__(self) -> None:
        self._console, self._task, self._label = Console(stderr=True), TaskID(0), ""
        self._bars = Progress(*_columns(), console=self._console, transient=True, redirect_stdout=False)
        self._times: deque[float] = deque(maxlen=RECENT)
        self._first, self._said = 0.0, 0.0
        self.done, self.dropped = 0, 0

    @contextmanager
    def task(self, label: str, total: int | None) -> Iterator[None]:
        """The frames are worked on in this block; the bar is gone afterwards."""
        self._label, self._said = label, time.monotonic()
        if not self._console.is_terminal:
            self.say(label)
            yield
            return
        with self._bars:
            self._task = self._bars.add_task(label, total=total)
            yield

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def frame(self, dropped: int) -> None:
        """One more frame is done; ``dropped`` frames so far are not."""
        now = time.monotonic()
        self._first = self._first or now
        self._times.append(now)
        self.done, self.dropped = self.done + 1, dropped
        if self._console.is_terminal:
            self._bars.update(self._task, advance=1, description=f"{self._label}  {self.rates(self.fps)}")
        elif now - self._said >= LINES_S:
            self._said = now
            self.say(f"{self._label}: {self.done} frames, {self.rates(self.fps)}")

    def rates(self, fps: float) -> str:
        return f"{fps:.1f} FPS" + (f", {self.dropped} dropped" if self.dropped else "")

    @property
    def fps(self) -> float:
        return _rate(len(self._times), self._times[-1] - self._times[0]) if self._times else 0.0

    @property
    def mean_fps(self) -> float:
        return _rate(self.done, self._times[-1] - self._first) if self._times else 0.0


def _rate(frames: int, seconds: float) -> float:
    return (frames - 1) / seconds if seconds > 0 else 0.0


def _columns() -> tuple[ProgressColumn, ...]:
    text = TextColumn("{task.description}", markup=False)
    return SpinnerColumn(), text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
