"""What went wrong, in one line that says how to mend it, and the exit status that goes with it."""

from __future__ import annotations

import errno
from typing import Protocol, runtime_checkable

from edgeseg.errors import EdgesegError

USAGE = 2
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_SPACE_LEFT = "no space left: free some, or give another --out; nothing half-written is left"
# Which extra brings a module that only some commands import.
EXTRAS = {
    "cv2": "video",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxscript": "export",
    "onnxsim": "export",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "safetensors": "export",
    "torch": "export",
}


@runtime_checkable
class UsageError(Protocol):
    """Typer's usage errors; their common base has moved between its releases, their shape has not."""

    def format_message(self) -> str: ...


def explain(error: BaseException) -> tuple[str, int]:
    """The message, one line, and the exit status for ``error``."""
    message, status = _explain(error)
    return " ".join(message.split()), status


def _explain(error: BaseException) -> tuple[str, int]:
    match error:
        case EdgesegError():
            return str(error), error.exit_status
        case UsageError():
            return f"{error.format_message()} (see --help)", USAGE
        case KeyboardInterrupt():
            return "interrupted; nothing half-written is left", USAGE
        case ModuleNotFoundError() if (name := (error.name or "").partition(".")[0]) in EXTRAS:
            return f"this command needs {name}: pip install 'edgeseg[{EXTRAS[name]}]'", USAGE
        case OSError():
            return _system(error), USAGE
        case RuntimeError() if "iostream error" in str(error):  # C++ streams, OpenVINO's too, do not say why
            return f"a file could not be written, {NO_SPACE_LEFT}", USAGE
        case MemoryError():
            return "out of memory: take a smaller --size or --frame, or fewer images", USAGE
    return f"{type(error).__name__}: {error} (a fault of edgeseg; EDGESEG_DEBUG=1 shows where)", USAGE


def _system(error: OSError) -> str:
    where = f" at {error.filename}" if error.filename else ""
    if error.errno in NO_SPACE:
        return NO_SPACE_LEFT
    return f"{error.strerror or error}{where}"
