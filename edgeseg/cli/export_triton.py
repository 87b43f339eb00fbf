"""``edgeseg export-triton``: artifacts to a model repository of NVIDIA Triton Inference Server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeseg.cli._output import print_json
from edgeseg.errors import InputError


def export_triton(
    artifact: Annotated[list[Path], typer.Argument(help="Artifact folders: tensorrt, onnxruntime, openvino.")],
    out: Annotated[Path, typer.Option(help="The model repository.")] = Path("triton"),
    name: Annotated[str | None, typer.Option(help="The model's name there; the artifact's by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a model of that name.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write artifacts into a model repository that `tritonserver --model-repository` serves."""
    from edgeseg.triton import export

    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give --out a folder")
    if name is not None and len(artifact) > 1:
        raise InputError("--name is of one model: give one artifact with it")
    names = [path.resolve().name for path in artifact]
    if twice := [each for each in names if names.count(each) > 1]:
        raise InputError(f"two artifacts are called {twice[0]}: export them one by one, with --name")
    folders = [export(path, out, name, force) for path in artifact]
    if json:
        print_json(models=[{"artifact": str(a), "model": str(m)} for a, m in zip(artifact, folders, strict=True)])
    else:
        print(*folders, sep="\n")
