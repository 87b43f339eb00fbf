"""The rules of the tree that a linter cannot hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgeseg.runtimes import targets

ROOT = Path(__file__).parents[1]
FOLDERS = ("export", "runtimes", "benchmarks")


def python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a fresh interpreter at the project's root."""
    command = [sys.executable, *options, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_bare_name_is_refused(folder: str) -> None:
    done = python(f"import {folder}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ImportError: the import name is edgeseg.{folder}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_links_show_the_folders_where_they_are_imported(folder: str) -> None:
    link = ROOT / "edgeseg" / folder
    assert link.is_symlink()
    assert link.resolve() == ROOT / folder


def test_the_runtimes_load_no_heavy_package() -> None:
    heavy = ("torch", "onnx", "onnx_ir", "onnxruntime", "openvino", "typer", "rich", "PIL", "edgeseg.export")
    done = python(f"import sys, edgeseg.runtimes; print([m for m in {heavy} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_runtimes_import_in_a_third_of_a_second() -> None:
    """Of the importing thread's CPU time, which other work on the machine does not stretch; most of it is NumPy's,
    whose other threads only spin: 0.10 s here, in 0.10 s, of a process's 0.18."""
    code = "import time; t = time.thread_time(); import edgeseg.runtimes; print(time.thread_time() - t)"
    assert min(float(python(code).stdout) for _ in range(5)) < 0.3


def test_the_command_line_starts_without_the_heavy_packages() -> None:
    heavy = ("torch", "onnx", "onnxruntime", "openvino", "cv2", "edgeseg.export", "edgeseg.models")
    done = python(f"import sys, edgeseg.cli; print([m for m in {heavy} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_every_runtime_has_its_twin_in_export() -> None:
    built = {path.stem for path in (ROOT / "export").glob("*.py") if path.stem in targets()}
    assert targets()
    assert built == set(targets())


@pytest.mark.parametrize("folder", ["edgeseg", *FOLDERS])
def test_folders_with_code_are_packages(folder: str) -> None:
    inside = [path.parent for path in (ROOT / folder).rglob("*.py")]
    assert [str(path) for path in set(inside) if not (path / "__init__.py").exists()] == []
