"""Does pip find a wheel for aarch64 Linux of everything that a robot installs? Installs and runs nothing.

    python -m tests.scripts.aarch64_wheels [--glibc 2.35] [PYTHON…]

asks pip for each extra as on such a machine, with binaries only, once with each PYTHON (python3.10 python3.11
python3.12 unless given), and prints the table of docs/robots.md. pip takes the environment markers of the machine it
runs on, so what it chose is checked against each package's own requirements, read as an aarch64 machine reads them."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from tests.scripts.slim import ROOT, make_wheel

EXTRAS = ("tflite", "openvino", "onnxruntime", "tensorrt", "video")
OLDEST = 17  # manylinux2014 is glibc 2.17


def report(python: str, wheel: Path, extra: str, glibc: int) -> tuple[list[dict[str, Any]], str]:
    """What pip would install of ``wheel[extra]`` on aarch64 with glibc 2.``glibc``; or nothing, and why."""
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in range(glibc, OLDEST - 1, -1)] + ["manylinux2014_aarch64"]
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
        command += ["--only-binary=:all:", "--target", folder, "-c", str(ROOT / "constraints.txt")]
        command += [word for platform in platforms for word in ("--platform", platform)]
        done = subprocess.run([*command, f"{wheel}[{extra}]"], capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        return [], (errors or ["?"])[-1]
    found: list[dict[str, Any]] = json.loads(done.stdout)["install"]
    return found, ""


def missing(found: list[dict[str, Any]], python: str, extra: str) -> set[str]:
    """What an aarch64 machine would need beside ``found``."""
    chosen = {canonicalize_name(entry["metadata"]["name"]): entry for entry in found}
    environment = {"platform_machine": "aarch64", "python_version": python, "python_full_version": f"{python}.0"}
    wanted = set[str]()
    for name, entry in chosen.items():
        extras = [*entry.get("requested_extras", []), extra if name == "edgeseg" else ""]
        for text in entry["metadata"].get("requires_dist", []):
            need = Requirement(text)
            if need.marker is None or any(need.marker.evaluate({**environment, "extra": e}) for e in extras):
                wanted.add(canonicalize_name(need.name))
    return wanted - chosen.keys()


def least_glibc(url: str) -> int | None:
    """The least minor version of glibc 2 that a wheel's name asks for; None of one in pure Python."""
    minors = [
        int(found[1]) if (found := re.fullmatch(r"manylinux_2_(\d+)_aarch64", tag.platform)) else OLDEST
        for tag in parse_wheel_filename(url.rpartition("/")[2].replace("%2B", "+"))[3]
        if tag.platform.endswith("_aarch64")
    ]
    return min(minors, default=None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="*", default=["python3.10", "python3.11", "python3.12"], metavar="PYTHON")
    parser.add_argument("--glibc", default="2.35", help="of the machine that is asked for")
    asked = parser.parse_args()
    glibc, failed = int(asked.glibc.partition(".")[2]), False
    with tempfile.TemporaryDirectory() as folder:
        wheel = make_wheel(Path(folder))
        print("| Python | extra | wheels for aarch64, the least glibc of each |\n|---|---|---|")
        for python in asked.pythons:
            command = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
            version = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            for extra in EXTRAS:
                found, why = report(python, wheel, extra, glibc)
                absent = missing(found, version, extra)
                failed |= bool(why or absent)
                told = why or (f"left out: {', '.join(sorted(absent))}" if absent else _native(found))
                print(f"| {version} | `{extra}` | {told} |", flush=True)
    return int(failed)


def _native(found: list[dict[str, Any]]) -> str:
    """The packages that hold machine code; how many do not."""
    names = {
        f"{entry['metadata']['name']} {entry['metadata']['version']}": least_glibc(entry["download_info"]["url"])
        for entry in found
    }
    native = [f"{name} (2.{minor})" for name, minor in sorted(names.items()) if minor is not None]
    return f"{', '.join(native)}; {len(names) - len(native)} in pure Python"


if __name__ == "__main__":
    sys.exit(main())
