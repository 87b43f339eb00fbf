"""What keeps freed tensors from staying resident."""

from __future__ import annotations

import ctypes
import sys

LARGE = 4 << 20
M_MMAP_THRESHOLD = -3  # malloc.h


def give_back_large() -> None:
    """From now on glibc takes blocks of 4 MiB and more from the system one by one and gives each back. Left alone, it
    raises that bound to 32 MiB as such blocks are freed, and the holes that tensors of several sizes leave in its heap
    doubled what a process held (mallopt(3)). Where there is no glibc this does nothing."""
    if sys.platform == "linux":
        tune = getattr(ctypes.CDLL(None), "mallopt", None)
        if tune is not None:
            tune(M_MMAP_THRESHOLD, LARGE)
