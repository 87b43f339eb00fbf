"""The GPU, and the CUDA context that an engine lives in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from edgeseg.errors import DeviceError, InputError
from edgeseg.runtimes._tensorrt.driver import Driver


@dataclass(frozen=True)
class Device:
    """A GPU: its number, the driver's handle, its name and its compute capability, such as "8.7"."""

    ordinal: int
    handle: Any
    name: str
    capability: str


def find(driver: Driver, ordinal: int) -> Device:
    """The GPU number ``ordinal``. To be called before TensorRT is: 8.6 crashes where there is no driver.

    Raises:
        DeviceError: no driver, or no GPU that this user may use.
        InputError: fewer GPUs than that.
    """
    try:
        driver("cuInit", 0)
        count = driver("cuDeviceGetCount")
    except DeviceError as error:
        raise DeviceError(
            f"no NVIDIA GPU can be used here ({error}): TensorRT engines need one and its driver; `nvidia-smi`,"
            " or on a Jetson `ls /dev/nvhost* /dev/nvmap`, should work for this user"
        ) from None
    if not 0 <= ordinal < count:
        raise InputError(f"there is no GPU {ordinal} here, only {count} counted from 0")
    handle, attribute = driver("cuDeviceGet", ordinal), driver.api.CUdevice_attribute
    major, minor = (
        driver("cuDeviceGetAttribute", getattr(attribute, f"CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_{part}"), handle)
        for part in ("MAJOR", "MINOR")
    )
    name = driver("cuDeviceGetName", 128, handle).rstrip(b"\0").decode(errors="replace")
    return Device(ordinal, handle, name, f"{major}.{minor}")


class Context:
    """A CUDA context, pushed around each use, so that any thread may come and finds its own context again after.

    It is the one that is current where the artifact is opened, if that is of the same GPU: so arrays of a context
    that PyCUDA made can be read. Else it is the GPU's primary context, which PyTorch and CuPy share; that one is
    retained until all that ``hold`` it have let go.
    """

    def __init__(self, driver: Driver, device: Device) -> None:
        self.driver, self.device = driver, device
        self._lock, self._holders, self._retained = threading.Lock(), 1, True
        current = driver("cuCtxGetCurrent")
        theirs = bool(int(current)) and int(driver("cuCtxGetDevice")) == int(device.handle)
        _, active = driver("cuDevicePrimaryCtxGetState", device.handle)
        if not theirs or active:
            self.handle = driver("cuDevicePrimaryCtxRetain", device.handle)
            if not theirs or int(self.handle) == int(current):
                return
            driver("cuDevicePrimaryCtxRelease", device.handle)
        self.handle, self._retained = current, False

    @contextmanager
    def current(self) -> Iterator[None]:
        """The calling thread's current context, for as long as the block lasts."""
        self.driver("cuCtxPushCurrent", self.handle)
        try:
            yield
        except BaseException:
            with suppress(DeviceError):
                self.driver("cuCtxPopCurrent")
            raise
        self.driver("cuCtxPopCurrent")

    def hold(self) -> None:
        """One more has something in this context."""
        with self._lock:
            self._holders += 1

    def drop(self) -> None:
        """One less; with the last the primary context is released."""
        with self._lock:
            self._holders -= 1
            last = not self._holders
        if last and self._retained:
            self.driver("cuDevicePrimaryCtxRelease", self.device.handle)
