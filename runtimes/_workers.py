"""Calls with a limit of time: Python cannot end a call into a vendor's library, but it need not wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Overdue(Exception):
    """A call did not come back in time. It still runs, in a thread that nobody waits for."""


class Workers:
    """As many threads as there are callers at a time, each used again. They are daemons: a call that never comes back
    does not keep the program from ending."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []  # its append and pop are atomic
        self._closed = False

    def call(self, function: Callable[[], T], seconds: float) -> T:
        """What ``function`` gives, or raises. Raises Overdue where that takes more than ``seconds``."""
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker()
        result: T = worker.call(function, seconds)
        self._idle.append(worker)
        if self._closed:
            self.close()
        return result

    def close(self) -> None:
        """End the idle threads; those that still work end after it."""
        self._closed = True
        while self._idle:
            self._idle.pop().end()


class _Worker:
    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], Any], _Answer] | None] = SimpleQueue()
        threading.Thread(target=_work, args=(self._jobs,), name="edgeseg-worker", daemon=True).start()

    def call(self, function: Callable[[], Any], seconds: float) -> Any:
        answer = _Answer()
        try:
            self._jobs.put((function, answer))
            if not answer.awaited.acquire(timeout=seconds):
                raise Overdue
            if answer.error is not None:
                raise answer.error
            return answer.value
        except BaseException:  # Ctrl-C among them
            self.end()  # once the call is back
            raise

    def end(self) -> None:
        self._jobs.put(None)


class _Answer:
    def __init__(self) -> None:
        self.awaited, self.value = threading.Lock(), None  # free once it is there; Ctrl-C can break an Event's wait
        self.awaited.acquire()
        self.error: BaseException | None = None


def _work(jobs: SimpleQueue[tuple[Callable[[], Any], _Answer] | None]) -> None:
    while (job := jobs.get()) is not None:
        function, answer = job
        try:
            answer.value = function()
        except BaseException as error:
            answer.error = error
        answer.awaited.release()
        del job, function, answer  # frames and answers are not kept until the next one
