"""Frames in, answers out, in order: one thread reads ahead, the caller's own runs the engine."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from edgeseg.errors import InputError
from edgeseg.runtimes._health import Timings
from edgeseg.runtimes._mailbox import Mailbox

JOIN_S = 5.0  # how long ``close`` waits for a source that is asked for a frame

Ask = Callable[[Any], "tuple[Any, Timings]"]


@dataclass(frozen=True)
class Result:
    """One frame's answer. ``number`` counts the source's frames from 0, also those that were dropped; ``stamp`` is the
    source's, or ``time.monotonic()`` when the frame came; ``answer`` is a label map or Detections; ``waited`` is how
    many seconds the frame lay in the queue."""

    number: int
    stamp: Any
    frame: Any
    answer: Any
    timings: Timings
    waited: float


@dataclass(frozen=True)
class Waiting:
    """A frame in the queue; ``came`` by ``time.monotonic()``."""

    number: int
    stamp: Any
    frame: Any
    came: float

    @classmethod
    def of(cls, number: int, item: Any) -> Waiting:
        """``item`` is a frame, or a pair of a time stamp and a frame."""
        now = time.monotonic()
        stamp, frame = item if isinstance(item, tuple) and len(item) == 2 else (now, item)
        return cls(number, stamp, frame, now)

    def answered(self, ask: Ask) -> Result:
        waited = time.monotonic() - self.came
        answer, timings = ask(self.frame)
        return Result(self.number, self.stamp, self.frame, answer, timings, waited)


def keeps(keep: str, depth: int) -> bool:
    """Whether only the latest frames are kept. Raises InputError where ``keep`` or ``depth`` is not one that there
    is."""
    if keep not in ("all", "latest"):
        raise InputError(f"keep must be 'all' or 'latest', not {keep!r}")
    if not isinstance(depth, int) or depth < 1:
        raise InputError(f"depth must be a whole number of at least 1, not {depth!r}")
    return keep == "latest"


class Stream(Iterator[Result]):
    """The results of ``source``'s frames; an iterator and a context manager. ``dropped`` frames gave way to newer ones.

    An error of the source is raised after the results before it; an error of a frame is raised in its place, and the
    next call goes on with the next frame. A stream that nobody holds any more closes itself."""

    def __init__(
        self, source: Iterable[Any], ask: Ask, keep: str, depth: int, dropped: Callable[[int], object]
    ) -> None:
        self._mail: Mailbox[Waiting] = Mailbox(depth, keeps(keep, depth))
        self._ask, self._tell, self._told = ask, dropped, 0
        # The thread knows the mailbox alone, so that this object can go while it reads.
        self._reader = threading.Thread(target=_read, args=(source, self._mail), name="edgeseg-stream", daemon=True)
        self._finalizer = weakref.finalize(self, self._mail.close)
        self._reader.start()

    @property
    def dropped(self) -> int:
        return self._mail.dropped

    def __next__(self) -> Result:
        try:
            waiting = self._mail.get()
        except Exception:  # the source has ended
            self.close()
            raise
        except BaseException:  # Ctrl-C does not wait for the source
            self._finalizer()
            raise
        finally:
            self._count()
        return waiting.answered(self._ask)

    def _count(self) -> None:
        now = self.dropped
        self._tell(now - self._told)
        self._told = now

    def close(self) -> None:
        """End the stream; idempotent. The reading thread ends with it, or where the source keeps it for more than
        5 s, with the source's next frame."""
        self._finalizer()
        if self._reader is not threading.current_thread():
            self._reader.join(JOIN_S)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read(source: Iterable[Any], mail: Mailbox[Waiting]) -> None:
    try:
        for number, item in enumerate(source):
            if not mail.put(Waiting.of(number, item)):
                return
    except BaseException as error:  # the caller's thread raises it
        mail.end(error)
    else:
        mail.end()
