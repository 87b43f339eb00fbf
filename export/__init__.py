"""From a PyTorch network to artifacts: capture → passes → quantize → compile, one file a target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if __name__ != "edgeseg.export":
    raise ImportError("the import name is edgeseg.export")

if TYPE_CHECKING:
    from edgeseg.export._build import BuildRequest, build, layer_noise

__all__ = ["BuildRequest", "build", "layer_noise"]


def __getattr__(name: str) -> Any:
    """On first use: a board that finishes a ticket has neither PyTorch nor ONNX, which these need."""
    if name in __all__:
        from edgeseg.export import _build

        return getattr(_build, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
