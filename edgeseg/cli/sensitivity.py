"""``edgeseg sensitivity``: which layers int8 costs most."""

from __future__ import annotations

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
from edgeseg.cli._output import number, print_json, print_table
from edgeseg.cli._progress import progress

COLUMNS = ("layer", "operators", "dB alone", "of all noise\n%", "of the work\n%")


def sensitivity(
    model: ModelName,
    data: Annotated[str, typer.Option(metavar="SPEC", help="Images to calibrate on: KIND:PATH[:SPLIT].")],
    weights: Weights = None,
    variant: VariantName = None,
    classes: Classes = None,
    size: InputSize = None,
    frame: FrameSize = None,
    target: Annotated[str, typer.Option(help="Whose range of weights to take.")] = "openvino",
    calib_images: Annotated[int, typer.Option(help="How many images to calibrate on.")] = 64,
    rows: Annotated[int, typer.Option(help="How many layers the table shows, the noisiest first.")] = 20,
    plot: Annotated[Path, typer.Option(help="Picture of all layers.")] = Path("sensitivity.svg"),
    json: Annotated[bool, typer.Option("--json", help="Print JSON, with all layers.")] = False,
) -> None:
    """Which layers int8 costs most: each alone in int8, all others in float, against the float network."""
    from edgeseg.benchmarks.sensitivity_plot import write_plot
    from edgeseg.export import BuildRequest, layer_noise

    request = BuildRequest(
        model=model,
        weights=weights,
        variant=variant,
        classes=parse_classes(classes),
        size=parse_size(size, "--size"),
        frame=parse_size(frame, "--frame"),
        targets=(target,),
        precisions=("int8",),
        data=data,
        calib_images=calib_images,
    )
    with progress() as bars:
        layers = layer_noise(request, bars)
    write_plot(layers, model, plot)
    total = sum(layer.noise for layer in layers) or 1.0
    if json:
        found = [
            {"layer": x.name, "operators": x.operators, "db": x.db, "noise": x.noise / total, "work": x.work}
            for x in layers
        ]
        print_json(model=model, plot=str(plot), layers=found)
        return
    noisiest = sorted(layers, key=lambda layer: layer.noise, reverse=True)[: max(rows, 0)]
    print_table(
        f"{model}: the {len(noisiest)} noisiest of {len(layers)} layers in int8",
        COLUMNS,
        [[x.name, x.operators, number(x.db), number(100 * x.noise / total), number(100 * x.work)] for x in noisiest],
    )
    print(plot)
