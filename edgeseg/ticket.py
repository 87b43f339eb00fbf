"""A TensorRT build that waits for its board: the key ``ticket`` of a bundle's manifest."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from edgeseg.errors import ArtifactError
from edgeseg.manifest import Manifest

KEY = "ticket"
ONNX, CACHE, PLAN, TIMING_CACHE = "model.onnx", "calibration.cache", "model.plan", "timing.cache"
MIB = 1 << 20


@dataclass(frozen=True)
class Ticket:
    """``board`` and ``jetpack`` as edgeseg.boards has them, ``tensorrt`` the version that JetPack has.

    ``memory``: estimated bytes by what they are for, without the workspace; ``workspace``: bytes that the builder may
    try tactics in. ``calibration_cache``: the file's name, where int8 scales do not stand in the graph.
    """

    board: str
    jetpack: str
    tensorrt: str
    dla_core: int | None
    calibration_cache: str | None
    workspace: int
    memory: dict[str, int]

    @property
    def generation(self) -> tuple[int, int]:
        """TensorRT's major and minor version."""
        major, minor = self.tensorrt.split(".")[:2]
        return int(major), int(minor)

    def needs(self, workspace: int) -> int:
        """Bytes of memory that a build with this workspace is estimated to take."""
        return sum(self.memory.values()) + workspace


def write(manifest: Manifest, ticket: Ticket) -> Manifest:
    """``manifest`` marked as not built yet."""
    return replace(manifest, extra={**manifest.extra, KEY: asdict(ticket)})


def is_ticket(manifest: Manifest) -> bool:
    return KEY in manifest.extra


def read(manifest: Manifest) -> Ticket:
    """The ticket in ``manifest``.

    Raises:
        ArtifactError: it has none, or one that is malformed.
    """
    if not is_ticket(manifest):
        raise ArtifactError("this is no build ticket: its manifest.json names no board that it waits for")
    try:
        return _read(manifest.extra[KEY])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ArtifactError(f"manifest.json has a malformed ticket ({error!r}): build it again") from None


def _read(value: dict[str, Any]) -> Ticket:
    core, cache = value["dla_core"], value["calibration_cache"]
    ticket = Ticket(
        board=_text(value["board"]),
        jetpack=_text(value["jetpack"]),
        tensorrt=_text(value["tensorrt"]),
        dla_core=None if core is None else _whole(core),
        calibration_cache=None if cache is None else _text(cache),
        workspace=_whole(value["workspace"]),
        memory={_text(name): _whole(count) for name, count in value["memory"].items()},
    )
    assert ticket.generation  # ValueError where the version is none
    return ticket


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no whole number")
    return value
