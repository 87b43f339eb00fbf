"""The wheel holds every file of the four folders, under one import name, and nothing else; installed with one target's
extra it runs that target's artifacts, and is as small and as quick to import as docs/robots.md says."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from edgeseg.export import BuildRequest, build
from tests.scripts import slim

ROOT = Path(__file__).parents[1]
MOST_MB = {"tflite": 200, "openvino": 320, "onnxruntime": 220}  # all packages together
OURS_MB, IMPORT_S = 20, 0.3
FOLDERS = {
    "edgeseg": "edgeseg",
    "export": "edgeseg/export",
    "runtimes": "edgeseg/runtimes",
    "benchmarks": "edgeseg/benchmarks",
}


def project_files() -> list[PurePosixPath]:
    try:
        return [PurePosixPath(name) for name in slim.project_files()]
    except RuntimeError:
        pytest.skip("not a git checkout: which files belong to the project is not known")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project_files()
    return slim.make_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def wheel(made: Path) -> set[str]:
    """The names in the wheel."""
    with zipfile.ZipFile(made) as archive:
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


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out, targets = tmp_path_factory.mktemp("artifacts"), tuple(slim.EXTRAS)
    request = BuildRequest("enet", size=(64, 96), targets=targets, precisions=("fp32",), out=out)
    return dict(zip(targets, build(request), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("extra", slim.EXTRAS)
def test_a_robot_needs_little(extra: str, made: Path, artifacts: dict[str, Path], tmp_path: Path) -> None:
    try:
        found = slim.measure(extra, made, artifacts[extra], tmp_path)
    except slim.CannotInstall as error:
        pytest.skip(f"pip cannot install here: {error}")
    assert not found.packages.keys() & {*slim.ABSENT, "opencv-python-headless"}
    assert found.selftest["labels"] > 0.999
    assert found.packages["edgeseg"] <= OURS_MB and found.total <= MOST_MB[extra], found.packages
    assert found.import_cpu_s <= IMPORT_S
