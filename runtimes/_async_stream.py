"""A stream whose frames come from an async iterator: the event loop reads, a thread runs the engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from edgeseg.runtimes._stream import Ask, Result, Waiting, keeps


class AsyncStream(AsyncIterator[Result]):
    """As Stream, for ``async for`` and ``async with``. It belongs to one event loop, which it never blocks; a
    ``for`` that is left early leaves a task: use ``async with``, or await ``aclose``."""

    def __init__(
        self, source: AsyncIterable[Any], ask: Ask, keep: str, depth: int, dropped: Callable[[int], object]
    ) -> None:
        self._latest, self._depth = keeps(keep, depth), depth
        self._source, self._ask, self._tell = source, ask, dropped
        self._items: deque[Waiting] = deque()
        self._error: BaseException | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ended = self._closed = False
        self._changed = asyncio.Condition()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="edgeseg-stream")  # starts with the first frame
        self.dropped = 0

    async def __anext__(self) -> Result:
        if self._reader is None:  # here a loop runs
            self._reader = asyncio.get_running_loop().create_task(self._read())
        async with self._changed:
            await self._changed.wait_for(lambda: self._items or self._ended or self._closed)
            waiting = self._items.popleft() if self._items and not self._closed else None
            self._changed.notify_all()
        if waiting is None:
            error, self._error = self._error, None
            await self.aclose()
            raise error or StopAsyncIteration
        return await asyncio.get_running_loop().run_in_executor(self._thread, waiting.answered, self._ask)

    async def _read(self) -> None:
        number, changed = 0, self._changed
        try:
            async for item in self._source:
                async with changed:
                    if self._latest and len(self._items) == self._depth:
                        self._items.popleft()
                        self.dropped += 1
                        self._tell(1)
                    await changed.wait_for(lambda: len(self._items) < self._depth)
                    self._items.append(Waiting.of(number, item))
                    changed.notify_all()
                number += 1
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._error = error
        async with changed:
            self._ended = True
            changed.notify_all()

    async def aclose(self) -> None:
        """End the stream: the reading task is cancelled and the thread ends, once its frame is done; idempotent."""
        async with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        self._thread.shutdown(wait=False)

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
