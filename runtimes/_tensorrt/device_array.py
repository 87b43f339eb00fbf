"""An engine's output that stays on the GPU."""

from __future__ import annotations

import math
import weakref
from contextlib import suppress
from typing import Any

import numpy as np

from edgeseg.errors import DeviceError
from edgeseg.runtimes._tensorrt import dlpack
from edgeseg.runtimes._tensorrt.arrays import LEGACY
from edgeseg.runtimes._tensorrt.context import Context
from edgeseg.spec import TensorSpec


class DeviceArray:
    """C-contiguous memory of ``shape`` and ``dtype`` on the GPU that CuPy, PyTorch and PyCUDA take without a copy, by
    DLPack (``torch.from_dlpack``, ``cupy.from_dlpack``) or ``__cuda_array_interface__``.

    It owns the memory, and keeps the CUDA context, beyond the runtime's ``close``: both go with the last reference,
    which an array made from it holds too. ``stream`` is what its values are still computed on, a stream of the
    caller's that must live as long; None where they are there.

    Raises:
        DeviceError: no memory. To be made with the context current.
    """

    def __init__(self, spec: TensorSpec, context: Context, stream: int | None) -> None:
        self.shape, self.dtype, self.stream = spec.shape, np.dtype(spec.dtype), stream
        self._context = context
        pointer = context.driver("cuMemAlloc", self.dtype.itemsize * math.prod(self.shape))
        self.address = int(pointer)
        context.hold()
        weakref.finalize(self, _free, context, pointer)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3, "shape": self.shape, "typestr": self.dtype.str, "data": (self.address, False),
            "strides": None, "stream": self.stream,
        }  # fmt: skip

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self._context.device.ordinal

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A capsule for the consumer whose ``stream`` this is (None: the default stream; -1: no need to wait).

        Raises:
            BufferError: a copy, or another device, is asked for.
        """
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError("this array lies on its GPU and is not copied")
        if self.stream is not None and stream not in (-1, self.stream):
            self._order(self.stream, LEGACY if stream is None else stream)
        return dlpack.export(self.address, self.shape, self.dtype, self._context.device.ordinal, self)

    def _order(self, first: int, then: int) -> None:
        """Make stream ``then`` wait for what stream ``first`` has to do."""
        driver = self._context.driver
        with self._context.current():
            event = driver("cuEventCreate", driver.api.CUevent_flags.CU_EVENT_DISABLE_TIMING)
            try:
                driver("cuEventRecord", event, first)
                driver("cuStreamWaitEvent", then, event, 0)
            finally:
                driver("cuEventDestroy", event)


def _free(context: Context, pointer: Any) -> None:
    """Frees memory whose last user is gone; the driver waits for what still works on it."""
    with suppress(DeviceError), context.current():
        context.driver("cuMemFree", pointer)
    with suppress(DeviceError):
        context.drop()
