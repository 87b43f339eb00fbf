"""What ``edgeseg finish`` keeps in a bundle beside the files of its manifest: a lock, and the plan of a stopped run."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeseg.artifact import write_whole
from edgeseg.errors import InputError

LOCK, FOLDER, KEPT, KEY = ".lock", "unfinished", "model.plan", "made-with.json"


@contextmanager
def locked(bundle: Path) -> Iterator[None]:
    """One run at a time; the lock goes with the process, however that ends.

    Raises:
        InputError: another one has it.
    """
    with (bundle / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another edgeseg finish works on {bundle}: wait until it is done") from None
        yield


def kept_plan(bundle: Path, key: Mapping[str, Any]) -> bytes | None:
    """The plan that an earlier run made and could not prove; None where there is none, or one made otherwise."""
    folder = bundle / FOLDER
    try:
        made = json.loads((folder / KEY).read_text(encoding="utf-8"))
        plan = (folder / KEPT).read_bytes()
    except (OSError, ValueError):
        return None
    return plan if made == {**key, "sha256": hashlib.sha256(plan).hexdigest()} else None


def keep_plan(bundle: Path, key: Mapping[str, Any], plan: bytes) -> None:
    """The plan first and whole, then what it was made with: a plan without that, or of another, counts for nothing."""
    folder = bundle / FOLDER
    write_whole(folder / KEPT, plan)
    made = {**key, "sha256": hashlib.sha256(plan).hexdigest()}
    write_whole(folder / KEY, json.dumps(made))


def drop_plan(bundle: Path) -> None:
    folder = bundle / FOLDER
    for name in (KEY, KEPT):
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir():
        folder.rmdir()
