"""Where a stream's frames wait: few of them, by two rules."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """At most ``depth`` items. Where it is full, ``put`` waits, or with ``latest`` drops the oldest. The end, or the
    error that it came with, is met after the items before it; with ``latest`` too."""

    def __init__(self, depth: int, latest: bool) -> None:
        self._changed, self._items = threading.Condition(), deque[T]()
        self._depth, self._latest = depth, latest
        self._ended, self._closed = False, False
        self._error: BaseException | None = None
        self.dropped = 0

    def put(self, item: T) -> bool:
        """Whether there is somebody to take it: False once ``close`` was called."""
        with self._changed:
            if self._latest and len(self._items) == self._depth:
                self._items.popleft()
                self.dropped += 1
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._depth)
            if self._closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def end(self, error: BaseException | None = None) -> None:
        """No more items come; ``error`` is why."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def get(self) -> T:
        """The next item, waited for. Raises the error that the items ended with, or StopIteration."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._ended or self._items)
            if self._items and not self._closed:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None and not self._closed:
                error, self._error = self._error, None
                raise error
            raise StopIteration

    def close(self) -> None:
        """Whoever waits is let go; what waits is thrown away."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
