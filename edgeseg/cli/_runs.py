"""A run: an artifact's identity and what was measured of it, as design's JSON has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeseg.artifact import load


def identity(path: Path) -> dict[str, Any]:
    """``artifact``, ``model``, ``target``, ``precision`` of the artifact at ``path``."""
    manifest = load(path).manifest
    model = manifest.model.name
    return {"artifact": str(path), "model": model, "target": manifest.target, "precision": manifest.precision}
