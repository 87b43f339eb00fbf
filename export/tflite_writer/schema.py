"""The schema of TFLite files (schema.fbs) as LiteRT ships it, and the flatbuffers package it is made for."""

from __future__ import annotations

from edgeseg.errors import MissingExtra

try:
    import flatbuffers  # type: ignore[import-untyped]
    from ai_edge_litert import schema_py_generated as schema
except ImportError:
    raise MissingExtra("target tflite", "ai-edge-litert", "tflite") from None

__all__ = ["flatbuffers", "schema"]
