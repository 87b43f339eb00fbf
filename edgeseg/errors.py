"""The errors a user can mend. The command line prints them as one line and exits with their status."""


class EdgesegError(Exception):
    """Base of all errors that edgeseg raises on purpose; ``exit_status`` is the command line's."""

    exit_status = 2


class InputError(EdgesegError, ValueError):
    """Something the user gave is wrong; the message says what, and how to mend it."""


class MissingExtra(EdgesegError, ImportError):
    """A package that the chosen target or command needs is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}: pip install 'edgeseg[{extra}]'")


class ArtifactError(EdgesegError):
    """An artifact folder is incomplete, altered, or of a schema that this version does not read."""


class DeviceError(EdgesegError):
    """The device, its driver or its memory is missing, or failed while the engine ran."""


class CheckFailed(EdgesegError):
    """A parity gate or a self-test did not hold."""

    exit_status = 1
