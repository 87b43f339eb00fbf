"""DLPack capsules against PyTorch's and NumPy's: theirs are read; ours they read, keep and give back."""

from __future__ import annotations

import ctypes
import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.dlpack import from_dlpack

from edgeseg.runtimes._tensorrt import dlpack


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64", "float16", "float32", "bool"])
def test_pytorchs_capsules_are_read(dtype: str) -> None:
    tensor = torch.zeros(4, 6, dtype=getattr(torch, dtype))
    capsule = tensor[1:, ::2].__dlpack__()
    address, shape, found, strides = dlpack.read(capsule)
    assert (shape, found, strides) == ((3, 3), dtype, (6, 2))
    assert address == tensor.data_ptr() + 6 * tensor.element_size()
    assert dlpack.read(capsule)[0] == address  # reading is not consuming


def test_what_cannot_be_read_is_said() -> None:
    capsule = torch.zeros(2).__dlpack__()
    from_dlpack(capsule)
    with pytest.raises(ValueError, match="used before or is of another version"):
        dlpack.read(capsule)
    with pytest.raises(ValueError, match="used before or is of another version"):
        dlpack.read("no capsule")
    with pytest.raises(ValueError, match=r"DLPack type 4/16×1 is none of NumPy's"):
        dlpack.read(torch.zeros(2, dtype=torch.bfloat16).__dlpack__())


class Owner:
    """Memory on the host that says it lies on the GPU."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **_: Any) -> Any:
        return dlpack.export(self.values.ctypes.data, self.values.shape, self.values.dtype, 0, self)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float16", "bool"])
def test_numpy_and_pytorch_take_what_is_exported(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dlpack, "CUDA", 1)  # kDLCPU: NumPy follows no address on a GPU
    owner = Owner(np.arange(24).reshape(1, 4, 6).astype(dtype))
    want, gone = owner.values.copy(), weakref.ref(owner)
    for take in (np.from_dlpack, from_dlpack):
        taken: Any = take(owner)
        assert (np.asarray(taken) == want).all() and str(taken.dtype).endswith(dtype)
    del owner
    gc.collect()
    assert gone() is not None and (np.asarray(taken) == want).all()  # the consumer keeps it
    del taken
    gc.collect()
    assert gone() is None and not dlpack._exported


def test_a_capsule_that_nobody_takes_gives_back_what_it_holds() -> None:
    owner = Owner(np.zeros(3, np.uint8))
    gone, capsule = weakref.ref(owner), owner.__dlpack__()
    tensor = dlpack.DLManagedTensor.from_address(dlpack._address(id(capsule), dlpack.NAME)).tensor
    assert (tensor.device.type, tensor.device.number, tensor.ndim, tensor.dtype.lanes) == (dlpack.CUDA, 0, 1, 1)
    assert ctypes.sizeof(dlpack.DLManagedTensor) == 64  # dlpack.h, on 64 bits
    del owner, capsule
    gc.collect()
    assert gone() is None and not dlpack._exported
