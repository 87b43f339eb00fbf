"""Which targets and extras are installed, read from edgeseg's own package metadata."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from edgeseg.cli._finding import Finding
from edgeseg.errors import MissingExtra
from edgeseg.runtimes import targets

SHOWN = ("export", "video")


def findings() -> Iterator[Finding]:
    extras = _extras()
    for target in targets():
        yield _target(target, extras.get(target, []))
    for extra in SHOWN:
        yield _extra(extra, extras.get(extra, []))


def usable_targets() -> tuple[str, ...]:
    """The targets whose engines can be built and run here; why another cannot goes to stderr, a line each."""
    from edgeseg.export import _targets

    found = []
    for name in targets():
        try:
            importlib.import_module(f"edgeseg.runtimes.{name}")
            reason = _targets.why_not(name)
        except MissingExtra as missing:
            reason = str(missing)
        if reason is None:
            found.append(name)
        else:
            print(f"left out: {reason}", file=sys.stderr)
    return tuple(found)


def _target(name: str, packages: list[str]) -> Finding:
    """A target is there when its runtime imports, from whichever package."""
    try:
        importlib.import_module(f"edgeseg.runtimes.{name}")
    except (MissingExtra, ImportError) as error:
        mend = "" if isinstance(error, MissingExtra) else f"mend its installation: {error}"
        return Finding("target", f"target {name}", False, _versions(packages), mend or _pip(name))
    return Finding("target", f"target {name}", True, _versions(packages))


def _extra(name: str, packages: list[str]) -> Finding:
    lacking = [package for package in packages if installed(package) is None]
    return Finding("extra", f"extra {name}", not lacking, _versions(packages), _pip(name) if lacking else "")


def _pip(extra: str) -> str:
    return f"pip install 'edgeseg[{extra}]'"


def _versions(packages: list[str]) -> str:
    return ", ".join(f"{package} {installed(package) or 'not installed'}" for package in packages)


def installed(package: str) -> str | None:
    """The installed version of a distribution, None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _extras() -> dict[str, list[str]]:
    """Extra → the packages that it requires."""
    found: dict[str, list[str]] = {}
    for line in requires("edgeseg") or []:
        if match := re.match(r"([\w.-]+)[^;]*;.*extra == ['\"]([\w-]+)['\"]", line):
            found.setdefault(match[2], []).append(match[1])
    return found
