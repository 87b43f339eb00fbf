"""Lanes for threads: as many as callers at a time need, never more than allowed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from edgeseg.errors import InputError
from edgeseg.runtimes._tensorrt.context import Context
from edgeseg.runtimes._tensorrt.lane import Lane


class Pool:
    """At most ``most`` lanes that ``make`` makes; a thread has one to itself for a call, and waits where all are
    taken."""

    def __init__(self, context: Context, make: Callable[[], Lane], most: int) -> None:
        self._context, self._make, self._most = context, make, most
        self._changed, self._making = threading.Condition(), threading.Lock()
        self._idle: list[Lane] = []
        self._count, self._closed = 0, False

    @contextmanager
    def lane(self) -> Iterator[Lane]:
        """A lane, with the CUDA context current.

        Raises:
            InputError: the engine is closed.
            DeviceError: no memory for one more lane, or the GPU failed before.
        """
        lane = self._taken()
        try:
            self._context.driver.check_alive()
            with self._context.current():
                if lane is None:
                    with self._making:
                        lane = self._make()
                yield lane
        finally:
            with self._changed:
                if lane is None:
                    self._count -= 1
                else:
                    self._idle.append(lane)
                self._changed.notify_all()

    def _taken(self) -> Lane | None:
        """An idle lane, or None and the right to make one."""
        with self._changed:
            while True:
                if self._closed:
                    raise InputError("this engine is closed: open the artifact again")
                if self._idle:
                    return self._idle.pop()
                if self._count < self._most:
                    self._count += 1
                    return None
                self._changed.wait()

    def close(self) -> None:
        """Let nobody in, wait for those inside, release the lanes. Raises DeviceError: a release failed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._idle) == self._count)
            lanes, self._idle, self._count = self._idle, [], 0
        with ExitStack() as stack:
            for lane in lanes:
                stack.callback(self._release, lane)

    def _release(self, lane: Lane) -> None:
        with self._context.current():
            lane.close()
