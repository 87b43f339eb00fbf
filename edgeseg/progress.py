"""How long work tells where it stands: a label, and a call for each finished part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """``with progress.task("calibrate", 64) as done: … done()``; ``total`` None where it is not known."""

    def task(self, label: str, total: int | None = None) -> AbstractContextManager[Callable[[], None]]: ...

    def note(self, line: str) -> None:
        """Say ``line``, which stays."""


class Silent:
    """Says nothing."""

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Callable[[], None]]:
        yield lambda: None

    def note(self, line: str) -> None:
        pass
