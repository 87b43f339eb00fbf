"""The float graph, asked for tensors between its ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import onnx_ir as ir
import onnxruntime as ort


def session_of(model: ir.Model, names: Sequence[str]) -> Any:
    """An ONNX Runtime session of ``model`` that also gives the tensors ``names``."""
    proto = ir.to_proto(model)
    have = {o.name for o in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in have)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
