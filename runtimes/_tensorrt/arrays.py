"""Arrays of PyCUDA, CuPy, PyTorch and others, read where they lie on the GPU: DLPack, else CUDA array interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeseg.errors import InputError
from edgeseg.runtimes._tensorrt import dlpack
from edgeseg.runtimes._tensorrt.driver import first_line
from edgeseg.spec import TensorSpec

LEGACY = 1  # CU_STREAM_LEGACY: the default stream, which waits for all blocking streams


@dataclass(frozen=True)
class View:
    """C-contiguous memory on a GPU. ``keep`` holds it; ``stream`` is to be waited for before it is used."""

    address: int
    keep: object
    stream: int | None = None


def view(array: Any, spec: TensorSpec, stream: int, *, write: bool = False) -> View | None:
    """``array`` as it lies on the GPU, or None where it does not. A producer with DLPack makes ``stream`` wait for
    what it still computes; others name a stream to wait for, or (before version 3 of the interface) the default one.

    Raises:
        InputError: not of ``spec``'s shape and dtype, not contiguous, or, to ``write`` to, read-only.
    """
    try:
        found = _dlpack(array, stream) or _interface(array, write)
    except (BufferError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"'{spec.name}' cannot be taken from the GPU: {first_line(error)}") from None
    if found is None:
        return None
    memory, shape, dtype, strides = found
    if shape != spec.shape or dtype != np.dtype(spec.dtype):
        raise InputError(f"'{spec.name}' must be {spec.dtype} {list(spec.shape)}, got {dtype} {list(shape)}")
    if strides is not None and not _contiguous(shape, strides):
        raise InputError(f"'{spec.name}' must be C-contiguous on the GPU: copy it first")
    return memory


Found = tuple[View, tuple[int, ...], "np.dtype[Any]", "tuple[int, ...] | None"]


def _dlpack(array: Any, stream: int) -> Found | None:
    where = getattr(array, "__dlpack_device__", None)
    if where is None or int(where()[0]) not in (dlpack.CUDA, dlpack.MANAGED):
        return None
    capsule = array.__dlpack__(stream=stream)
    address, shape, dtype, strides = dlpack.read(capsule)
    return View(address, (array, capsule)), shape, np.dtype(dtype), strides


def _interface(array: Any, write: bool) -> Found | None:
    described = getattr(array, "__cuda_array_interface__", None)
    if described is None:
        return None
    dtype, (address, read_only) = np.dtype(described["typestr"]), described["data"]
    stream = described.get("stream") if described["version"] >= 3 else LEGACY
    if described.get("mask") is not None or (write and read_only) or stream == 0:
        raise ValueError("its __cuda_array_interface__ is masked, read-only, or of stream 0, which is no stream")
    strides = described.get("strides")
    if strides is not None:
        strides = tuple(s // dtype.itemsize for s in strides)
    return View(int(address), array, stream), tuple(described["shape"]), dtype, strides


def _contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent != 1 and stride != expected:
            return False
        expected *= extent
    return True


def stream_handle(stream: Any) -> int:
    """The driver's handle of a stream of PyTorch, CuPy, PyCUDA, cuda-python, or as a number.

    Raises:
        InputError: none of these.
    """
    for attribute in ("cuda_stream", "ptr", "handle"):
        stream = getattr(stream, attribute, stream)
    if (protocol := getattr(stream, "__cuda_stream__", None)) is not None:
        stream = protocol()[1]
    try:
        return int(stream) or LEGACY
    except (TypeError, ValueError):
        raise InputError(f"{type(stream).__name__} is no CUDA stream: give its handle as a number") from None
