"""DLPack capsules (dlpack.h, the form before version 1.0, which every producer and consumer knows)."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

CUDA, MANAGED = 2, 13  # kDLCUDA, kDLCUDAManaged
NAME = b"dltensor"
KINDS = {0: "int", 1: "uint", 2: "float", 6: "bool"}
CODES = {"i": 0, "u": 1, "f": 2, "b": 6}


class DLDevice(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("number", ctypes.c_int32))


class DLDataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", DLDevice),
        ("ndim", ctypes.c_int32),
        ("dtype", DLDataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class DLManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", DLTensor), ("manager", ctypes.c_void_p), ("deleter", Deleter))


_valid = ctypes.pythonapi.PyCapsule_IsValid
_valid.argtypes, _valid.restype = (ctypes.c_void_p, ctypes.c_char_p), ctypes.c_int
_address = ctypes.pythonapi.PyCapsule_GetPointer
_address.argtypes, _address.restype = (ctypes.c_void_p, ctypes.c_char_p), ctypes.c_void_p
_capsule = ctypes.pythonapi.PyCapsule_New
_capsule.argtypes, _capsule.restype = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p), ctypes.py_object

_exported: dict[int, tuple[Any, ...]] = {}  # what exported tensors point to, until their consumers are done


def read(capsule: Any) -> tuple[int, tuple[int, ...], str, tuple[int, ...] | None]:
    """(address, shape, dtype, strides in elements or None) of a capsule, which stays the caller's to keep and drop:
    its producer takes the tensor back when the capsule goes.

    Raises:
        ValueError: used before, or a dtype that NumPy does not have.
    """
    if not _valid(id(capsule), NAME):
        raise ValueError("its DLPack capsule was used before or is of another version")
    tensor = DLManagedTensor.from_address(_address(id(capsule), NAME)).tensor
    kind = tensor.dtype
    if kind.code not in KINDS or kind.lanes != 1:
        raise ValueError(f"its DLPack type {kind.code}/{kind.bits}×{kind.lanes} is none of NumPy's")
    dtype = "bool" if kind.code == 6 else f"{KINDS[kind.code]}{kind.bits}"
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None
    return (tensor.data or 0) + tensor.byte_offset, tuple(tensor.shape[: tensor.ndim]), dtype, strides


def export(address: int, shape: tuple[int, ...], dtype: np.dtype[Any], device: int, owner: object) -> Any:
    """A capsule of C-contiguous memory on GPU ``device``, which keeps ``owner`` until its consumer is done."""
    extents = (ctypes.c_int64 * len(shape))(*shape)
    managed = DLManagedTensor(
        DLTensor(
            address, DLDevice(CUDA, device), len(shape), DLDataType(CODES[dtype.kind], dtype.itemsize * 8, 1),
            ctypes.cast(extents, ctypes.POINTER(ctypes.c_int64)), None, 0,
        ),
        None,
        _deleter,
    )  # fmt: skip
    place = ctypes.addressof(managed)
    _exported[place] = (managed, extents, owner)
    return _capsule(place, NAME, ctypes.cast(_destructor, ctypes.c_void_p))


def _delete(place: int) -> None:
    _exported.pop(place, None)


def _unused(capsule: int) -> None:
    """A capsule goes. One that was consumed has another name by then, and its consumer calls the deleter."""
    if _valid(capsule, NAME):
        _delete(_address(capsule, NAME))


_deleter, _destructor = Deleter(_delete), Deleter(_unused)
