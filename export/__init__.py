"""From a PyTorch network to artifacts: capture → passes → quantize → compile, one file a target."""

if __name__ != "edgeseg.export":
    raise ImportError("the import name is edgeseg.export")

from edgeseg.export._build import BuildRequest, build

__all__ = ["BuildRequest", "build"]
