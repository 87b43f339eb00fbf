"""``edgeseg doctor``: what this machine offers, what is missing, and the command that brings it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from edgeseg.cli._output import print_json, print_table


def doctor(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Targets, NVIDIA's parts, CPU, devices, power sensors and clocks of this machine."""
    from edgeseg.cli import _machine, _nvidia, _packages

    findings = [*_packages.findings(), *_nvidia.findings(), *_machine.findings()]
    if json:
        print_json(checks=[asdict(finding) for finding in findings])
        return
    rows = ([f.name, "ok" if f.ok else "missing", f.found, f.mend] for f in findings)
    print_table("This machine", ("part", "state", "found", "what to do"), rows)
