"""What this CPU's int8 kernels can be trusted with."""

from __future__ import annotations

import platform
from pathlib import Path

X86 = ("x86_64", "amd64", "i686", "i386")
VNNI = {"avx512_vnni", "avx_vnni", "avx512vnni", "avxvnni"}
EXACT_LEVELS = 64  # the largest int8 weight of which kernels that saturate sum every pair of products exactly


def flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The CPU's feature flags as Linux lists them; empty where it does not say."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def saturates(machine: str | None = None, features: frozenset[str] | None = None) -> bool:
    """Whether int8 kernels that use this CPU's multiply-add saturate in 16 bits: x86 without VNNI.

    An x86 CPU whose flags are unknown is taken to saturate, since half the weight range is right on both.
    """
    return (machine or platform.machine()).lower() in X86 and not VNNI & (flags() if features is None else features)
