"""The wheel holds every file of the four folders, under one import name, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "edgeseg": "edgeseg",
    "export": "edgeseg/export",
    "runtimes": "edgeseg/runtimes",
    "benchmarks": "edgeseg/benchmarks",
}


def project_files() -> list[PurePosixPath]:
    """Files that git tracks, or would track if they were added."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout: which files belong to the project is not known")
    return [PurePosixPath(name) for name in listed.stdout.splitlines() if (ROOT / name).exists()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a wheel made from a copy of the project."""
    copy, out = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("wheel")
    for name in project_files():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    with zipfile.ZipFile(next(out.glob("*.whl"))) as archive:
        return set(archive.namelist())


def test_the_wheel_is_the_four_folders(wheel: set[str]) -> None:
    expected = {
        str(PurePosixPath(FOLDERS[name.parts[0]], *name.parts[1:]))
        for name in project_files()
        if name.parts[0] in FOLDERS and not (ROOT / name).is_symlink()
    }
    packed = {name for name in wheel if ".dist-info/" not in name}
    assert packed == expected


def test_site_packages_gets_one_name(wheel: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edgeseg"}


def test_the_wheel_carries_licence_types_and_command(wheel: set[str]) -> None:
    assert "edgeseg/py.typed" in wheel
    assert any(name.endswith("licenses/LICENSE") for name in wheel)
    assert any(name.endswith("entry_points.txt") for name in wheel)


def test_constraints_pin_what_the_extras_ask_for() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [Requirement(r) for r in project["dependencies"]]
    for extra, requirements in project["optional-dependencies"].items():
        asked += [] if extra == "tensorrt" else [Requirement(r) for r in requirements]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins: dict[str, list[Requirement]] = {}
    for line in lines:
        pin = Requirement(line)
        pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    for need in asked:
        name = canonicalize_name(need.name)
        if name in ("edgeseg", "setuptools"):
            continue
        assert name in pins, f"{name} is not pinned"
        for pin in pins[name]:
            version = str(pin.specifier).removeprefix("==")
            assert need.specifier.contains(version), f"{pin} is outside {need}"
