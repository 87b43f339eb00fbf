"""``edgeseg train``: the plain trainer that made the packaged weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edgeseg.cli._options import parse_size
from edgeseg.cli._output import number, print_table
from edgeseg.cli._progress import progress
from edgeseg.datasets import Dataset, open_dataset
from edgeseg.errors import InputError
from edgeseg.spec import Preprocess


def train(
    model: Annotated[str, typer.Argument(help="A network of `edgeseg models`.")],
    data: Annotated[str, typer.Option(metavar="SPEC", help="Images with labels: KIND:PATH[:SPLIT].")],
    val: Annotated[str | None, typer.Option(metavar="SPEC", help="Images to score the result on.")] = None,
    variant: Annotated[str | None, typer.Option(help="The network's form; the paper's by default.")] = None,
    size: Annotated[str | None, typer.Option(metavar="HxW", help="Network input; the images' by default.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="How many batches to learn from.")] = 2500,
    batch: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 8,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order, augmentation and dropout.")] = 0,
    coarse: Annotated[float, typer.Option(min=0, max=1, help="Share of the steps on half-size frames.")] = 0.88,
    weights: Annotated[Path | None, typer.Option(help="Checkpoint to start from, instead of from scratch.")] = None,
    out: Annotated[Path, typer.Option(help="Folder that receives weights and state.")] = Path("train"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from what --out holds.")] = False,
) -> None:
    """Train a network on the CPU; MODEL.safetensors in --out is what `build --weights` takes."""
    dataset, scored = open_dataset(data), open_dataset(val) if val else None
    if not dataset.classes:
        raise InputError(f"{data} names no classes: training needs labels and their classes")
    from edgeseg.models import _train, load, spec
    from edgeseg.models._fresh import fresh

    wanted = _size(parse_size(size, "--size"), dataset, spec(model).stride)
    network, form = fresh(model, len(dataset.classes), variant, seed)
    if weights is not None:
        network.load_state_dict(load(model, weights, form.name, len(dataset.classes)).module.state_dict())
    preprocess = Preprocess(wanted, form.mean, form.std, form.order)
    recipe = _train.Recipe(steps=steps, batch=batch, lr=lr, seed=seed, coarse=coarse, stride=spec(model).stride)
    notes = {"variant": form.name, "classes": str(len(dataset.classes)), "data": data}
    with progress() as bars:
        trained = _train.train(network, dataset, preprocess, recipe, out, resume=resume, progress=bars, report=_report)
        if scored is not None:
            mean, each = _train.mean_iou(trained, scored, preprocess, bars)
            notes["miou_val"] = number(mean, ".2f")
    made = out / f"{model}.safetensors"
    _train.save_weights(trained, made, notes)
    if scored is not None:
        rows = [[c.name, number(v, ".2f")] for c, v in zip(scored.classes, each, strict=True)]
        print_table(f"IoU on {val}, points", ("class", "IoU"), [*rows, ["mean", notes["miou_val"]]])
    print(made)


def _size(wanted: tuple[int, int] | None, dataset: Dataset, stride: int) -> tuple[int, int]:
    height, width = wanted or dataset[0].frame.shape[:2]
    if height % stride or width % stride:
        raise InputError(f"{height}x{width} is no multiple of {stride}: give --size")
    return height, width


def _report(step: int, loss: float) -> None:
    print(f"step {step}: mean loss {loss:.4f}", file=sys.stderr)
