"""The pre-flight: what it finds, in small graphs that break one rule each."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgeseg.errors import InputError
from edgeseg.export import preflight
from edgeseg.export.parser_operators import KNOWN
from edgeseg.export.passes._rewrite import Rewriter

FLOAT, UINT8, INT32, INT64 = (ir.DataType[name] for name in ("FLOAT", "UINT8", "INT32", "INT64"))


def graph(
    dtype: ir.DataType = FLOAT, shape: tuple[Any, ...] = (1, 3, 8, 8), opset: int = 17, version: int = 8
) -> Rewriter:
    x = ir.Value(name="x", shape=ir.Shape(shape), type=ir.TensorType(dtype))
    model = ir.Model(ir.Graph([x], [], nodes=[], opset_imports={"": opset}), ir_version=version)
    return Rewriter(model)


def found(r: Rewriter, *outputs: ir.Value, generation: str = "8.5") -> list[str]:
    r.graph.outputs.extend(outputs or [list(r.graph)[-1].outputs[0]])
    return [str(finding) for finding in preflight.check(r.model, generation)]


def x(r: Rewriter) -> ir.Value:
    return r.graph.inputs[0]


def typed(value: ir.Value, dtype: ir.DataType) -> ir.Value:
    value.type = ir.TensorType(dtype)
    return value


@pytest.mark.parametrize("generation", sorted(KNOWN))
def test_an_operator_that_no_generation_knows(generation: str) -> None:
    r = graph()
    r.op("MaxUnpool", [x(r), x(r)], "up")
    (said,) = found(r, generation=generation)
    assert said.startswith("node 'up' (MaxUnpool): the parser does not know") and "the unpool pass" in said


def test_an_operator_that_came_later_names_the_generations_that_have_it() -> None:
    r = graph()
    r.op("NonMaxSuppression", [x(r), x(r)], "nms")
    (said,) = found(r, generation="8.6")
    assert "known to 10, 11, rtx" in said
    assert preflight.check(r.model, "10") == []


def test_custom_operators() -> None:
    r = graph()
    producer = r.op("Deform", [x(r)], "odd").producer()
    assert producer is not None
    producer.domain = "my.own"
    assert "custom operator of 'my.own'" in found(r)[0]


def test_pooling() -> None:
    r = graph()
    node = ir.node("MaxPool", [x(r)], attributes={"kernel_shape": [2, 2]}, num_outputs=2)
    node.name, node.outputs[0].name, node.outputs[1].name = "pool", "values", "indices"
    r.graph.append(node)
    assert "its indices are used" in found(r, *node.outputs)[0]
    r = graph()
    r.op("MaxPool", [x(r)], "pool", kernel_shape=[2, 2], dilations=[2, 2])
    assert "dilations" in found(r)[0]
    r = graph()
    r.op("MaxPool", [x(r)], "pool", kernel_shape=[2])
    assert "neither 2D nor 3D" in found(r)[0]


def test_bytes_enter_and_leave_by_floats() -> None:
    r = graph(UINT8)
    r.op("Transpose", [x(r)], "turned", perm=[0, 2, 3, 1])
    assert "computes with uint8" in found(r)[0]
    r = graph(INT64)
    typed(r.op("Cast", [x(r)], "labels", to=UINT8), UINT8)
    assert "labels_by_float" in found(r)[0]
    r = graph(UINT8)
    typed(r.op("Cast", [x(r)], "wide", to=FLOAT), FLOAT)
    assert found(r) == []


@pytest.mark.parametrize(
    ("kind", "attributes", "said"),
    [
        ("Resize", {"coordinate_transformation_mode": "tf_crop_and_resize"}, "coordinate_transformation_mode"),
        ("Resize", {"antialias": 1}, "antialiasing"),
        ("Resize", {"keep_aspect_ratio_policy": "not_larger"}, "aspect ratio"),
        ("Pad", {"mode": "wrap"}, "mode wrap"),
    ],
)
def test_forms_that_parsers_refuse(kind: str, attributes: dict[str, Any], said: str) -> None:
    r = graph()
    r.op(kind, [x(r)], "node", **attributes)
    assert said in found(r)[0]


def test_inputs_that_must_be_constant_or_are_not_read() -> None:
    r = graph()
    axes = typed(r.op("Shape", [x(r)], "axes"), INT64)
    r.op("ReduceMean", [x(r), axes], "mean")
    assert "input 'axes' is computed" in found(r, generation="10")[0]
    r = graph()
    four = [x(r), r.const(np.zeros(2, np.int64), "pads"), None, r.const(np.array([0]), "axis")]
    r.op("Pad", four, "pad")
    assert "axes as an input" in found(r)[0] and preflight.check(r.model, "10") == []


def test_types() -> None:
    r = graph()
    typed(r.op("Cast", [x(r)], "double", to=ir.DataType.DOUBLE), ir.DataType.DOUBLE)
    assert "gives double" in found(r)[0]
    r = graph(INT32)
    typed(r.op("MatMul", [x(r), x(r)], "product"), INT32)
    assert "computes with integers" in found(r)[0] and preflight.check(r.model, "10") == []
    r = graph(INT64)
    typed(r.op("Add", [x(r), r.const(np.array([1 << 40]), "far")], "sum"), INT64)
    assert "'far' is beyond int32" in found(r)[0] and preflight.check(r.model, "10") == []


def test_versions_and_shapes() -> None:
    r = graph(shape=(None, 3, 8, 8), opset=18, version=10)
    r.op("Relu", [x(r)], "relu")
    opset, version, shape = found(r)
    assert "opset 18, read up to 17" in opset and "IR version 10" in version and "no static shape" in shape
    assert len(preflight.check(r.model, "10")) == 1


def test_refusal_is_one_line_with_node_operator_and_mend() -> None:
    r = graph()
    for name in ("one", "two"):
        r.op("MaxUnpool", [x(r), x(r)], name)
    with pytest.raises(InputError, match=r"TensorRT 8\.5 would refuse node 'one' \(MaxUnpool\): .* \(and 1 more"):
        preflight.refuse(r.model, "8.5")
    with pytest.raises(InputError, match="unknown TensorRT generation '7'"):
        preflight.check(r.model, "7")


@pytest.mark.parametrize(
    ("package", "version", "generation"),
    [
        ("tensorrt", "8.5.2.2", "8.5"), ("tensorrt", "8.6.1", "8.6"), ("tensorrt", "9.3.0", "8.6"),
        ("tensorrt", "10.3.0", "10"), ("tensorrt", "10.13.3", "10"), ("tensorrt", "11.4.0.106", "11"),
        ("tensorrt_rtx", "1.7.1.116", "rtx"),
    ],
)  # fmt: skip
def test_generations(package: str, version: str, generation: str) -> None:
    assert preflight.generation(package, version) == generation


@pytest.mark.parametrize("version", ["8.4.1", "7.1", "new"])
def test_no_generation(version: str) -> None:
    with pytest.raises(InputError, match=r"too old|no version"):
        preflight.generation("tensorrt", version)


class Quantized:
    """A convolution with its pairs, to be broken."""

    def __init__(self, **odd: Any) -> None:
        self.r = r = graph()
        scale, zero = odd.get("scale", np.float32(0.1)), odd.get("zero", np.int8(0))
        self.scale, self.zero = r.const(scale, "scale"), r.const(zero, "zero")
        q = typed(r.op("QuantizeLinear", [x(r), self.scale, self.zero], "x_q"), ir.DataType.INT8)
        other = r.const(np.float32(0.2), "other") if odd.get("unlike") else self.scale
        self.x = typed(r.op("DequantizeLinear", [q, other, self.zero], "x_dq"), FLOAT)
        weight = r.const(np.ones((4, 3, 1, 1), np.int8), "w")
        count = 4 if odd.get("axis", 0) == 0 else 3
        scales = [r.const(np.ones(count, np.float32), "w_scale"), r.const(np.zeros(count, np.int8), "w_zero")]
        self.w = typed(r.op("DequantizeLinear", [weight, *scales], "w_dq", axis=odd.get("axis", 0)), FLOAT)
        self.bias = r.const(np.zeros(4, np.float32), "bias")

    def conv(self, x: ir.Value | None = None, w: ir.Value | None = None, bias: ir.Value | None = None) -> ir.Value:
        return typed(self.r.op("Conv", [x or self.x, w or self.w, bias or self.bias], "conv"), FLOAT)

    def pair(self, value: ir.Value, name: str) -> ir.Value:
        q = typed(self.r.op("QuantizeLinear", [value, self.scale, self.zero], f"{name}_q"), ir.DataType.INT8)
        return typed(self.r.op("DequantizeLinear", [q, self.scale, self.zero], f"{name}_dq"), FLOAT)


def test_a_sound_int8_graph_passes() -> None:
    q = Quantized()
    relu = typed(q.r.op("Relu", [q.conv()], "relu"), FLOAT)
    q.r.op("Add", [q.pair(relu, "relu"), q.x], "sum")
    assert found(q.r) == []


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"zero": np.int8(3)}, "a zero point that is not 0"),
        ({"zero": np.uint8(0)}, "uint8, not int8"),
        ({"scale": np.float32(0)}, "a scale that is not a positive constant"),
        ({"scale": np.float32(np.nan)}, "a scale that is not a positive constant"),
        ({"scale": np.full(3, 0.1, np.float32)}, "3 scales with 1 zero points"),
        ({"scale": np.full(3, 0.1, np.float32), "zero": np.zeros(3, np.int8)}, "an activation with a scale by channel"),
        ({"unlike": True}, "another scale than its Q's"),
        ({"axis": 1}, "one by output channel, axis 0"),
    ],
)
def test_pairs(odd: dict[str, Any], said: str) -> None:
    q = Quantized(**odd)
    q.conv()
    assert any(said in line for line in found(q.r)), said


def test_placement() -> None:
    q = Quantized()
    q.r.op("Relu", [q.pair(q.conv(), "between")], "relu")
    assert "a pair between 'conv' and its Relu" in found(q.r)[0]
    q = Quantized()
    q.r.op("Add", [typed(q.r.op("Relu", [q.conv()], "relu"), FLOAT), q.x], "sum")
    assert "node 'sum' (Add): one quantized and one float input ('relu')" in found(q.r)[0]
    q = Quantized()
    q.conv(x(q.r))
    assert any("half quantized: its input in float" in line for line in found(q.r))


def test_biases_stay_float() -> None:
    q = Quantized()
    whole = q.r.const(np.zeros(4, np.int32), "bias_int32")
    scales = [q.r.const(np.ones(4, np.float32), "b_scale"), q.r.const(np.zeros(4, np.int32), "b_zero")]
    q.conv(bias=typed(q.r.op("DequantizeLinear", [whole, *scales], "bias_dq", axis=0), FLOAT))
    lines = found(q.r)
    assert any("node 'bias_dq' (DequantizeLinear): dequantizes an int32 bias" in line for line in lines)
    assert any("a quantized bias" in line for line in lines)


def test_half_a_pair() -> None:
    q = Quantized()
    q.conv()
    lone = typed(q.r.op("QuantizeLinear", [x(q.r), q.scale, q.zero], "lone"), ir.DataType.INT8)
    bare = typed(q.r.op("DequantizeLinear", [q.r.op("Identity", [lone], "same"), q.scale, q.zero], "bare"), FLOAT)
    lines = found(q.r, bare)
    assert any("'lone'" in line and "not followed by DequantizeLinear alone" in line for line in lines)
    assert any("'bare'" in line and "not behind QuantizeLinear" in line for line in lines)
