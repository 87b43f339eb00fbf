"""A run: an artifact's identity and what was measured of it, as design's JSON has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeseg.artifact import load


def identity(path: Path) -> dict[str, Any]:
    """``artifact``, ``model``, ``target``, ``precision`` of the artifact at ``path``, and ``unproven``, why its engine
    has proved nothing yet, where it has not."""
    manifest = load(path).manifest
    model = manifest.model.name
    found = {"artifact": str(path), "model": model, "target": manifest.target, "precision": manifest.precision}
    return found if manifest.unproven is None else {**found, "unproven": manifest.unproven}
