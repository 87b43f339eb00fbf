"""An engine's long life: who uses it now, what failed, and how it comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from edgeseg.errors import DeviceError, EdgesegError, InputError
from edgeseg.runtimes._health import Health
from edgeseg.runtimes._runtime import Feeds, Outputs, Runtime
from edgeseg.runtimes._workers import Overdue, Workers

CLOSE_S = 30.0  # how long ``close`` waits for frames that run
REOPEN_S = 60.0  # how long opening again may take under a watchdog
PAUSE_S = 1.0  # between two attempts to open again

T = TypeVar("T")


class _Call(Generic[T]):
    """What is made of a runtime, and the session that it is in."""

    def __init__(self, function: Callable[[Runtime], T]) -> None:
        self.function, self.begun = function, False
        self.session: _Session | None = None

    @property
    def is_inside(self) -> bool:
        return self.session is not None and self in self.session.calls


class _Session:
    """One opening of the engine: a runtime and the calls in it, by when they began. The last call out of a retired
    one closes it: closing what a call is in would hang as well, or crash."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.retired = runtime, False
        self.calls: dict[_Call[Any], float] = {}
        self.given_up: set[_Call[Any]] = set()

    def waited_for(self) -> bool:
        """Whether somebody still waits for a call in it."""
        return any(call not in self.given_up for call in self.calls)


class Life:
    """Runs ``runtime``, and after a failure what ``reopen`` gives, if there is that. ``watchdog`` is the limit of one
    call in seconds, None for no limit. Safe to call from several threads."""

    def __init__(self, runtime: Runtime, target: str, watchdog: float | None = None) -> None:
        self.reopen: Callable[[], Runtime] | None = None
        self._target, self._limit, self._workers = target, watchdog, Workers()
        # Ctrl-C can come between what a Condition's own ``with`` does, which is Python, but not within a lock's.
        self._lock, self._recovering = threading.RLock(), threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._session: _Session | None = _Session(runtime)
        self._sessions = {self._session}  # that and retired ones with calls in them
        self._closed, self._retry_at = False, 0.0
        self._frames = self._errors = self._overdue = self._reopened = 0
        self._last_error: str | None = None

    @property
    def runtime(self) -> Runtime:
        """What runs frames now, for who compares with the vendor's bare call."""
        assert self._session is not None
        return self._session.runtime

    def run(self, feeds: Feeds, out: Feeds | None = None) -> Outputs:
        """The runtime's outputs.

        Raises:
            DeviceError: it failed or did not come back in time, and did so again after it was opened again.
            InputError: the engine is closed.
        """
        if out is None:
            return self.call(lambda runtime: runtime.run(feeds))
        if self._limit is None:
            return self.call(lambda runtime: runtime.run(feeds, out))
        # What a call that was given up still writes must not be the caller's array.
        outputs = self.call(lambda runtime: runtime.run(feeds))
        for name, array in out.items():
            array[...] = outputs[name]
        return {**outputs, **out}

    def call(self, function: Callable[[Runtime], T]) -> T:
        """What ``function`` makes of the runtime; once more where the engine failed and was opened again."""
        first = _Call(function)
        try:
            return self._answer(first)
        except DeviceError:
            if self.reopen is None:
                raise
        self._recover(first.session)
        return self._answer(_Call(function))

    def health(self, dropped: int = 0) -> Health:
        with self._lock:
            began = [start for session in self._sessions for start in session.calls.values()]
            return Health(
                state="closed" if self._closed else "failed" if self._session is None else "ready",
                frames=self._frames,
                errors=self._errors,
                overdue=self._overdue,
                reopened=self._reopened,
                running=len(began),
                oldest_s=time.monotonic() - min(began) if began else 0.0,
                stuck=sum(len(session.given_up) for session in self._sessions),
                dropped=dropped,
                last_error=self._last_error,
            )

    def close(self) -> None:
        """Wait for frames that run, and close; idempotent. Raises DeviceError: they do not come back; the engine is
        closed when they do."""
        with self._lock:
            session, self._session, self._closed = self._session, None, True
            ended = session is None or self._changed.wait_for(lambda: not session.waited_for(), CLOSE_S)
        self._workers.close()
        if session is not None:
            self._retire(session)
        if not ended:
            raise DeviceError(f"target {self._target}: frames still run {CLOSE_S:g} s after close")

    def _answer(self, call: _Call[T]) -> T:
        """What ``call`` gives. Wherever Ctrl-C ends it, nobody waits for it any more."""
        try:
            self._enter(call)
            if self._limit is None:
                return self._inside(call)
            return self._workers.call(lambda: self._inside(call), self._limit)
        except Overdue:
            with self._lock:
                self._overdue += 1
            raise self._noted(f"target {self._target} did not come back within {self._limit:g} s") from None
        finally:
            if call.is_inside:
                self._abandon(call)

    def _enter(self, call: _Call[Any]) -> None:
        with self._lock:
            if self._closed:
                raise InputError("this engine is closed: open the artifact again")
            if self._session is None:
                raise DeviceError(self._last_error or "this engine failed")
            call.session = self._session
            call.session.calls[call] = time.monotonic()

    def _inside(self, call: _Call[T]) -> T:
        """The call itself, where it may hang."""
        assert call.session is not None
        came_back = False
        with self._lock:
            if not call.is_inside:
                raise Overdue  # its caller left before it could begin
            call.begun = True
        try:
            result = call.function(call.session.runtime)
            came_back = True
            return result
        except InputError:
            raise
        except EdgesegError as error:
            self._noted(str(error))
            raise
        except Exception as error:  # vendors' errors share no base class but Exception
            line = " ".join(str(error).split()) or type(error).__name__
            raise self._noted(f"target {self._target} failed on a frame: {line}") from error
        finally:
            self._leave(call, came_back)

    def _leave(self, call: _Call[Any], came_back: bool) -> None:
        session = call.session
        assert session is not None
        with self._lock:
            del session.calls[call]
            self._frames += came_back and call not in session.given_up
            session.given_up.discard(call)
            if self._closed:
                self._changed.notify_all()
            last = session.retired and not session.calls
        if last:
            self._end(session)

    def _abandon(self, call: _Call[Any]) -> None:
        """Of a caller who leaves with ``call`` inside: it is over, unless it goes on in its worker."""
        assert call.session is not None
        with self._lock:
            works = self._limit is not None and call.begun and call.is_inside
            if works:
                call.session.given_up.add(call)
                self._changed.notify_all()
            elif call.is_inside:
                self._leave(call, came_back=False)

    def _noted(self, line: str) -> DeviceError:
        with self._lock:
            self._errors += 1
            self._last_error = line
        return DeviceError(line)

    def _recover(self, failed: _Session | None) -> None:
        """Open again in place of ``failed``, unless another thread has. Raises DeviceError where that fails too."""
        with self._recovering:
            with self._lock:
                if self._closed or self._session is not failed:
                    return
                self._session = None
            if failed is not None:
                self._retire(failed)
            elif time.monotonic() < self._retry_at:
                raise DeviceError(f"{self._last_error}; it is opened again with a frame in {PAUSE_S:g} s")
            reason = self._last_error
            try:
                runtime = self._opened()
            except Exception as error:
                self._retry_at = time.monotonic() + PAUSE_S
                raise self._noted(f"{reason}; opened again: {error}" if failed else str(error)) from error
            with self._lock:
                closed = self._closed
                if not closed:
                    self._session = _Session(runtime)
                    self._sessions.add(self._session)
                    self._reopened += 1
            if closed:
                runtime.close()

    def _opened(self) -> Runtime:
        assert self.reopen is not None
        if self._limit is None:
            return self.reopen()
        given_up = threading.Event()

        def opened(reopen: Callable[[], Runtime] = self.reopen) -> Runtime:
            runtime = reopen()
            if given_up.is_set():
                runtime.close()
            return runtime

        try:
            return self._workers.call(opened, REOPEN_S)
        except Overdue:
            given_up.set()
            raise DeviceError(f"target {self._target} did not open again within {REOPEN_S:g} s") from None

    def _retire(self, session: _Session) -> None:
        with self._lock:
            session.retired, idle = True, not session.calls
        if idle:
            self._end(session)

    def _end(self, session: _Session) -> None:
        with self._lock:
            self._sessions.discard(session)
        if self._closed:
            session.runtime.close()
        else:
            with suppress(Exception):  # it failed already
                session.runtime.close()
