"""An engine's health as a diagnostic_msgs/DiagnosticArray, without ROS: the message classes are given."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edgeseg.runtimes import Health


def to_diagnostics(health: Health, replaced: int, name: str, artifact: str, stamp: Any, messages: Any) -> Any:
    """The array with one status, ``name``: an error where the engine is not ready, a warning where calls are stuck.
    ``replaced`` images gave way to newer ones; ``artifact`` is the hardware id; ``messages`` is diagnostic_msgs.msg."""
    status, array = messages.DiagnosticStatus(), messages.DiagnosticArray()
    status.name, status.hardware_id, status.message = name, artifact, health.last_error or health.state
    ready = status.WARN if health.stuck else status.OK
    status.level = ready if health.state == "ready" else status.ERROR
    for key, value in {**asdict(health), "replaced": replaced}.items():
        pair = messages.KeyValue()
        pair.key, pair.value = key, "" if value is None else str(value)
        status.values.append(pair)
    array.header.stamp = stamp
    array.status.append(status)
    return array
