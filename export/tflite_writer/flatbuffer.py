"""Builds a TFLite flatbuffer: tensors, constants and operators in, the file's bytes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.tflite_writer.schema import flatbuffers, schema
from edgeseg.export.tflite_writer.versions import version_of

SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
ALIGNMENT = 16  # schema.fbs: a buffer's data is force_align: 16; kernels read it in place


@dataclass(frozen=True)
class Quantization:
    """real = scale · (stored − zero); one scale, or one for each index of dimension ``axis``."""

    scale: tuple[float, ...]
    zero: int = 0
    axis: int = 0

    @classmethod
    def of(cls, scale: float) -> Quantization:
        """One scale, as the file's float32 holds it, and zero at 0."""
        return cls((float(np.float32(scale)),))


NUMBER = Quantization((1.0,))  # int8 that stands for itself


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file: its index, NHWC ``shape``, NumPy ``dtype`` name and quantization."""

    index: int
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None = None

    @property
    def scale(self) -> float:
        """The one scale of a quantized tensor."""
        assert self.quantization is not None
        return self.quantization.scale[0]


class File:
    """One subgraph with one signature, "serving_default"."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]  # buffer 0 stands for "no data"
        self._operators: list[Any] = []
        self._codes: dict[tuple[str, int], int] = {}
        self._constants: dict[tuple[Any, ...], Tensor] = {}

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        quantization: Quantization | None = None,
        buffer: int = 0,
    ) -> Tensor:
        """A tensor that an operator or the caller writes, or that has the data of ``buffer``."""
        entry = schema.TensorT(name=name.encode(), buffer=buffer, hasRank=True)
        entry.shape, entry.type = np.array(shape, np.int32), getattr(schema.TensorType, dtype.upper())
        entry.quantization = None if quantization is None else _parameters(quantization)
        self._tensors.append(entry)
        return Tensor(len(self._tensors) - 1, tuple(shape), dtype, quantization)

    def constant(self, array: NDArray[Any], quantization: Quantization | None = None) -> Tensor:
        """A tensor with data; equal data is stored once."""
        data = array.tobytes()
        key = (str(array.dtype), array.shape, quantization, data)
        if key not in self._constants:
            number, kind = len(self._buffers), str(array.dtype)
            self._buffers.append(_AlignedBuffer(data))
            self._constants[key] = self.tensor(f"constant_{number}", array.shape, kind, quantization, number)
        return self._constants[key]

    def renamed(self, tensor: Tensor, quantization: Quantization) -> Tensor:
        """``tensor`` itself, its stored values from now on standing for other reals."""
        self._tensors[tensor.index].quantization = _parameters(quantization)
        return replace(tensor, quantization=quantization)

    def operator(self, kind: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], options: Any = None) -> None:
        """Append builtin operator ``kind``; ``options`` is the schema's ``…OptionsT`` object."""
        code = (kind, version_of(kind, inputs, outputs, options))
        node = schema.OperatorT(opcodeIndex=self._codes.setdefault(code, len(self._codes)))
        node.inputs, node.outputs = _indices(inputs), _indices(outputs)
        if options is not None:
            node.builtinOptions = options
            node.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
        self._operators.append(node)

    def finish(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> bytes:
        """The file; the names of ``inputs`` and ``outputs`` become the tensors' and the signature's.

        Raises:
            InputError: an output that is an input or another output.
        """
        named = {tensor.index: name for name, tensor in (*inputs.items(), *outputs.items())}
        if len(named) < len(inputs) + len(outputs):
            raise InputError(f"of {[*inputs, *outputs]} two are the same tensor: leave one out")
        for index, name in named.items():
            self._tensors[index].name = name.encode()
        graph = schema.SubGraphT(name=b"main", tensors=self._tensors, operators=self._operators)
        graph.inputs, graph.outputs = _indices(list(inputs.values())), _indices(list(outputs.values()))
        model = schema.ModelT(version=SCHEMA_VERSION, description=b"edgeseg")
        model.buffers, model.subgraphs = self._buffers, [graph]
        model.operatorCodes = [_code(kind, version) for kind, version in self._codes]
        model.signatureDefs = [_signature(inputs, outputs)]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """The generated packer writes byte vectors one element at a time and unaligned."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.payload = data

    def Pack(self, builder: Any) -> Any:
        builder.StartVector(1, len(self.payload), ALIGNMENT)
        builder.head -= len(self.payload)
        builder.Bytes[builder.head : builder.head + len(self.payload)] = self.payload
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def _indices(tensors: Sequence[Tensor]) -> NDArray[np.int32]:
    return np.array([t.index for t in tensors], np.int32)


def _parameters(quantization: Quantization) -> Any:
    entry = schema.QuantizationParametersT(quantizedDimension=quantization.axis)
    entry.scale = np.array(quantization.scale, np.float32)
    entry.zeroPoint = np.full(len(quantization.scale), quantization.zero, np.int64)
    return entry


def _code(kind: str, version: int) -> Any:
    entry = schema.OperatorCodeT(builtinCode=getattr(schema.BuiltinOperator, kind), version=version)
    # Readers of before 2020 look into a byte that ends at 127.
    last = schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES
    entry.deprecatedBuiltinCode = min(entry.builtinCode, last)
    return entry


def _signature(inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> Any:
    entry = schema.SignatureDefT(signatureKey=b"serving_default", subgraphIndex=0)
    entry.inputs, entry.outputs = (
        [schema.TensorMapT(name=name.encode(), tensorIndex=t.index) for name, t in each.items()]
        for each in (inputs, outputs)
    )
    return entry
