"""``edgeseg build``: a network to artifacts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edgeseg.cli._options import (
    Classes,
    FrameSize,
    InputSize,
    ModelName,
    VariantName,
    Weights,
    parse_classes,
    parse_size,
)
from edgeseg.cli._output import print_json
from edgeseg.cli._progress import progress
from edgeseg.cli._runs import identity
from edgeseg.errors import InputError


def build(
    model: ModelName,
    weights: Weights = None,
    variant: VariantName = None,
    classes: Classes = None,
    size: InputSize = None,
    frame: FrameSize = None,
    target: Annotated[
        list[str] | None, typer.Option(help="openvino (default), tflite, onnxruntime, tensorrt; repeatable.")
    ] = None,
    precision: Annotated[list[str] | None, typer.Option(help="fp32 (default), fp16, int8; repeatable.")] = None,
    output: Annotated[str, typer.Option(help="labels, logits or both.")] = "labels",
    data: Annotated[str | None, typer.Option(metavar="SPEC", help="Images for int8: KIND:PATH[:SPLIT].")] = None,
    calib_images: Annotated[int, typer.Option(help="How many of them to calibrate on.")] = 64,
    calibrator: Annotated[
        str, typer.Option(help="How int8 finds ranges: weighted, mse, minmax, percentile:P (99.99) or entropy.")
    ] = "weighted",
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Keep what calibration frames showed for the next build.")
    ] = True,
    all_int8: Annotated[
        bool, typer.Option("--all-int8", help="Leave no layer in float for the noise that it brings.")
    ] = False,
    max_drop: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS", help="Of mIoU or AP that int8 may lose: layers stay in float until each engine holds it."
        ),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="SPEC", help="Images with labels for --max-drop; those of --data by default.")
    ] = None,
    board: Annotated[
        str | None,
        typer.Option("--for", metavar="BOARD", help="A Jetson: a ticket that `edgeseg finish` builds there."),
    ] = None,
    jetpack: Annotated[
        str | None, typer.Option(help="The board's JetPack; the newest that it takes by default.")
    ] = None,
    dla: Annotated[int | None, typer.Option(metavar="CORE", help="Its DLA core; the GPU by default.")] = None,
    out: Annotated[Path, typer.Option(help="Folder that receives the artifacts.")] = Path("build"),
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compile a network for each target and precision; each artifact proves itself before it is kept, where it can."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give --out a folder")
    if board is None and (jetpack, dla) != (None, None):
        raise InputError("--jetpack and --dla are of a board: give --for BOARD as well")
    from edgeseg.export import BuildRequest
    from edgeseg.export import build as export
    from edgeseg.export.ticket import TARGET, build_tickets, place

    where = None if board is None else place(board, jetpack, dla)

    request = BuildRequest(
        model=model,
        weights=weights,
        variant=variant,
        classes=parse_classes(classes),
        size=parse_size(size, "--size"),
        frame=parse_size(frame, "--frame"),
        targets=tuple(target or ["openvino" if where is None else TARGET]),
        precisions=tuple(precision or ["fp32"]),
        output=output,
        data=data,
        calib_images=calib_images,
        calibrator=calibrator,
        cache=cache,
        all_int8=all_int8,
        max_drop=max_drop,
        labels=labels,
        out=out,
    )
    with progress() as bars:
        paths = export(request, bars) if where is None else build_tickets(request, where, bars)
    found = [identity(path) for path in paths]
    for each in found if where is None else []:
        if "unproven" in each:
            print(f"not proven: {each['artifact']}: {each['unproven']}", file=sys.stderr)
    if json:
        print_json(artifacts=found)
    else:
        print(*paths, sep="\n")
