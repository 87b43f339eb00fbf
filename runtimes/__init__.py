"""What goes on the robot: open an artifact and run it. Loads neither torch nor onnx.

A public file in this folder is a target; its ``Runtime`` has one verb, ``run(feeds) -> outputs``.
"""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Any

if __name__ != "edgeseg.runtimes":
    raise ImportError("the import name is edgeseg.runtimes")

from edgeseg.runtimes._engine import Engine, open_artifact
from edgeseg.runtimes._health import Health, Timings
from edgeseg.runtimes._stream import Result, Stream

if TYPE_CHECKING:
    from edgeseg.runtimes._async_stream import AsyncStream

__all__ = ["AsyncStream", "Engine", "Health", "Result", "Stream", "Timings", "open_artifact", "targets"]


def targets() -> list[str]:
    """The names of the targets there are, whether or not their packages are installed."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not (m.name.startswith("_") or m.ispkg))


def __getattr__(name: str) -> Any:
    """``AsyncStream`` when it is asked for: it needs asyncio, a third of what the rest takes to import."""
    if name != "AsyncStream":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edgeseg.runtimes._async_stream import AsyncStream

    return AsyncStream
