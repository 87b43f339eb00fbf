"""TensorRT's calibration cache, the text in which implicit int8 and DLA take their scales until TensorRT 10.

A first line ``TRT-<version>-EntropyCalibration2``, then ``<tensor>: <hex>`` for each tensor: the bits of the float32
scale, amax / 127, as a hexadecimal number. Neither TensorRT nor ONNX is needed to read or write one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

from edgeseg.errors import ArtifactError

HEAD = re.compile(r"TRT-([0-9]+)-EntropyCalibration2")


def number(version: str) -> int:
    """TensorRT's version as its headers count it: 8.5.2.2 → 8502, 10.3.0 → 100300."""
    major, minor, patch = ([int(part) for part in version.split(".")] + [0, 0])[:3]
    return major * 10000 + minor * 100 + patch if major >= 10 else major * 1000 + minor * 100 + patch


def write(scales: Mapping[str, float], version: str) -> bytes:
    """The cache of ``scales`` (by tensor name, rounded to float32) for TensorRT ``version``.

    Raises:
        ArtifactError: a scale that is not positive and finite, or a name that has no place in the text.
    """
    lines = [f"TRT-{number(version)}-EntropyCalibration2"]
    for name, scale in scales.items():
        if name != name.strip() or not name.isprintable() or not name:
            raise ArtifactError(f"the tensor's name {name!r} has no form in a calibration cache: rename it")
        try:
            bits = struct.pack(">f", scale)
        except OverflowError:
            bits = struct.pack(">f", float("inf"))
        if not 0 < struct.unpack(">f", bits)[0] < float("inf"):
            raise ArtifactError(f"tensor '{name}' has scale {scale}: calibrate anew")
        lines.append(f"{name}: {bits.hex()}")
    return ("\n".join(lines) + "\n").encode()


def read(content: bytes) -> dict[str, float]:
    """Scales by tensor name.

    Raises:
        ArtifactError: no such text, with the line that is wrong.
    """
    lines = content.decode("utf-8", errors="replace").split("\n")
    if not HEAD.fullmatch(lines[0].strip()):
        raise ArtifactError(f"no calibration cache: its first line is {lines[0][:80]!r}; build the ticket again")
    scales = {}
    for place, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        name, colon, bits = line.rpartition(": ")
        if not colon or not re.fullmatch(r"[0-9a-fA-F]{1,8}", bits.strip()):
            raise ArtifactError(f"calibration cache, line {place}: {line[:80]!r} is no scale; build the ticket again")
        scales[name] = struct.unpack(">f", int(bits, 16).to_bytes(4, "big"))[0]
    return scales


def for_version(content: bytes, version: str) -> bytes:
    """The same scales under the first line of another TensorRT, which takes no other version's."""
    return write(read(content), version)
