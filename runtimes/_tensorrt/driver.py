"""The CUDA driver API as cuda-python gives it, with every status checked in one place."""

from __future__ import annotations

from typing import Any

from edgeseg.errors import DeviceError

# After these the context, and everything in it, is gone for good ("CUDA Driver API", CUresult).
STICKY = {
    f"CUDA_ERROR_{name}"
    for name in (
        "DEINITIALIZED", "ECC_UNCORRECTABLE", "NVLINK_UNCORRECTABLE", "ILLEGAL_ADDRESS", "LAUNCH_TIMEOUT",
        "CONTEXT_IS_DESTROYED", "ASSERT", "HARDWARE_STACK_ERROR", "ILLEGAL_INSTRUCTION", "MISALIGNED_ADDRESS",
        "INVALID_ADDRESS_SPACE", "INVALID_PC", "LAUNCH_FAILED", "EXTERNAL_DEVICE",
    )
}  # fmt: skip
FULL = "CUDA_ERROR_OUT_OF_MEMORY"
DEAD = "the engine is lost with its CUDA context: start the program again"


def first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class Driver:
    """Calls functions of ``api``, cuda-python's driver module, by name. ``lost`` names the error after which no call
    can succeed any more, once there was one."""

    def __init__(self, api: Any) -> None:
        self.api = api
        self.lost: str | None = None

    def __call__(self, function: str, *arguments: Any) -> Any:
        """What the function gives beside its status: None, one value, or a list of them.

        Raises:
            DeviceError: its status is not CUDA_SUCCESS, or this machine's driver does not have it.
        """
        try:
            status, *values = getattr(self.api, function)(*arguments)
        except (AttributeError, RuntimeError, ValueError) as error:  # no driver; an older one; a status newer than api
            raise DeviceError(f"{function}: {first_line(error)}") from None
        if int(status):
            raise DeviceError(f"{function}: {self._explained(str(getattr(status, 'name', status)))}")
        return values[0] if len(values) == 1 else values or None

    def _explained(self, name: str) -> str:
        if name in STICKY:
            self.lost = name
            return f"{name}, {DEAD}"
        if name == FULL:
            return f"{name}{self.room()}: close what else uses the GPU, or open the artifact with fewer threads"
        return name

    def room(self) -> str:
        try:
            status, free, total = self.api.cuMemGetInfo()
        except (ValueError, RuntimeError):  # it tells what it can
            return ""
        return "" if int(status) else f", {free / 1e6:.0f} of {total / 1e6:.0f} MB are free"

    def check_alive(self) -> None:
        """Raises DeviceError after an error that ended the CUDA context."""
        if self.lost is not None:
            raise DeviceError(f"{self.lost} in an earlier call, {DEAD}")
