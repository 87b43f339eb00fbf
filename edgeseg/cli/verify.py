"""``edgeseg verify``: is the artifact whole, and does it still answer as it was built to?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeseg.artifact import load
from edgeseg.cli._output import print_json, print_table
from edgeseg.cli._packages import installed
from edgeseg.cli._runs import identity
from edgeseg.errors import EdgesegError
from edgeseg.runtimes import open_artifact
from edgeseg.runtimes._selftest import selftest


def verify(
    artifact: Annotated[list[Path], typer.Argument(help="Artifact folders.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check hashes, compare package versions with those it was built with, run the golden self-test."""
    failures: list[EdgesegError] = []
    found = [_verify(path, failures) for path in artifact]
    if json:
        print_json(artifacts=found)
    else:
        print_table("Artifacts", ("artifact", "self-test", "other versions than built with"), map(_row, found))
    if failures:
        raise max(failures, key=lambda failure: failure.exit_status)


def _verify(path: Path, failures: list[EdgesegError]) -> dict[str, Any]:
    """What was found of one artifact; why it failed, if it did, is added to ``failures``."""
    try:
        artifact = load(path)
        with open_artifact(path, selftest=False) as engine:
            figures = selftest(engine.run, artifact)
    except EdgesegError as error:
        failures.append(error)
        return {"artifact": str(path), "passed": False, "error": str(error)}
    versions = _versions(artifact.manifest.toolchain)
    return {**identity(path), "passed": True, "selftest": figures, "versions": versions}


def _versions(toolchain: Mapping[str, str]) -> dict[str, dict[str, str | None]]:
    return {package: {"built": built, "installed": installed(package)} for package, built in toolchain.items()}


def _row(found: Mapping[str, Any]) -> list[str]:
    if not found["passed"]:
        return [found["artifact"], found["error"], ""]
    figures = ", ".join(f"{name} {value:.4g}" for name, value in found["selftest"].items())
    others = [  # what only the build needs may be absent
        f"{package} {v['installed']} (built with {v['built']})"
        for package, v in found["versions"].items()
        if v["installed"] not in (None, v["built"])
    ]
    return [found["artifact"], figures, "\n".join(others) or "none"]
