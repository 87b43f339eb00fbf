"""Rewrites ONNX → ONNX. Each public file is one pass, ``apply(model) -> bool`` (whether it changed anything),
in place, exact up to float rounding, and proven so by its test."""
