"""``edgeseg train``: the plain trainer that made the packaged weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli._options import parse_size
from edgeseg.cli._output import number, print_table
from edgeseg.cli._progress import progress
from edgeseg.datasets import Dataset, open_dataset
from edgeseg.errors import InputError
from edgeseg.spec import ModelSpec, Variant

if TYPE_CHECKING:
    from edgeseg.models._train import Lesson


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
    half: Annotated[bool, typer.Option("--half", help="Store kernels in half precision: half the file.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from what --out holds.")] = False,
) -> None:
    """Train a network on the CPU; MODEL.safetensors in --out is what `build --weights` takes."""
    dataset, scored = open_dataset(data), open_dataset(val) if val else None
    if not dataset.classes:
        raise InputError(f"{data} names no classes: training needs labels and their classes")
    from edgeseg.models import _train, load, spec
    from edgeseg.models._fresh import fresh

    network, form = fresh(model, len(dataset.classes), variant, seed)
    if weights is not None:
        network.load_state_dict(load(model, weights, form.name, len(dataset.classes)).module.state_dict())
    lesson = _lesson(dataset, spec(model), form, parse_size(size, "--size"))
    recipe = _train.Recipe(steps=steps, batch=batch, lr=lr, seed=seed, coarse=coarse)
    notes = {"variant": form.name, "classes": str(len(dataset.classes)), "data": data}
    notes["size"] = "x".join(map(str, lesson.preprocess.size))
    with progress() as bars:
        trained = _train.train(network, lesson, recipe, out, resume=resume, progress=bars, report=_report)
        if half:
            _train.halve_weights(trained)
        if scored is not None:
            mean, each = lesson.score(trained, scored, bars)
            notes["val"], notes[f"{lesson.metric} on val"] = str(val), number(mean, ".2f")
    made = out / f"{model}.safetensors"
    _train.save_weights(trained, made, notes, half)
    if scored is not None:
        rows = [[c.name, number(v, ".2f")] for c, v in zip(scored.classes, each, strict=True)]
        print_table(
            f"{lesson.metric} on {val}, points", ("class", lesson.metric), [*rows, ["mean", number(mean, ".2f")]]
        )
    print(made)


def _lesson(data: Dataset, network: ModelSpec, form: Variant, wanted: tuple[int, int] | None) -> Lesson:
    """Raises InputError for a size that the network does not take."""
    height, width = wanted or data[0].frame.shape[:2]
    if form.anchors is not None and wanted is None:  # letterboxed: the frame need not fill it
        height, width = network.fitting((height, width))
    if (height, width) != network.fitting((height, width)):
        raise InputError(f"{height}x{width} is no multiple of {network.stride}: give --size")
    preprocess = form.preprocess((height, width))
    if form.anchors is not None:
        from edgeseg.models._train_boxes import BoxLesson

        return BoxLesson(data, preprocess, network.stride, form.anchors)
    from edgeseg.models._train_labels import LabelLesson

    return LabelLesson(data, preprocess, network.stride)


def _report(step: int, loss: float) -> None:
    print(f"step {step}: mean loss {loss:.4f}", file=sys.stderr)
