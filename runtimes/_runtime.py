"""What every target's runtime offers, and the one check of what it is fed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.spec import TensorSpec

Feeds = Mapping[str, NDArray[Any]]
Outputs = dict[str, NDArray[Any]]


class Runtime(Protocol):
    """An opened engine. ``run`` may be called from several threads; the arrays it returns are the caller's."""

    def run(self, feeds: Feeds) -> Outputs: ...
    def close(self) -> None: ...


def check_feeds(feeds: Feeds, inputs: tuple[TensorSpec, ...]) -> None:
    """Raises InputError where a feed is missing, unknown, or of another shape or dtype than the engine's."""
    if set(feeds) != {spec.name for spec in inputs}:
        raise InputError(f"the engine takes {[spec.name for spec in inputs]}, not {sorted(feeds)}")
    for spec in inputs:
        got = feeds[spec.name]
        if tuple(got.shape) != spec.shape or str(got.dtype) != spec.dtype:
            raise InputError(
                f"'{spec.name}' must be {spec.dtype} {list(spec.shape)}, got {got.dtype} {list(got.shape)}"
            )
