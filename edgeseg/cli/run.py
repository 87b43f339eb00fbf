"""``edgeseg run``: overlays, label maps and boxes of images, videos, cameras and streams."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from edgeseg.cli._answers import TASKS, Answers, write_image
from edgeseg.cli._legend import draw_panel
from edgeseg.cli._meter import Meter
from edgeseg.cli._sources import Frame, Source, open_source, told
from edgeseg.runtimes import Engine, open_artifact

OUT = Path("overlays")


def run(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder.")],
    source: Annotated[
        str,
        typer.Argument(
            help="Image, folder of images, video file, camera (0 or /dev/video0) or stream (rtsp://…, http://…)."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder that receives the images; overlays, but with --show none.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Show the overlays in a window; q ends.")] = False,
    every: Annotated[int, typer.Option(min=1, metavar="N", help="Take each N-th frame.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="End after N frames.")] = None,
    legend: Annotated[bool, typer.Option(help="Name the classes on the overlays.")] = True,
    fps: Annotated[
        bool | None, typer.Option("--fps/--no-fps", help="Draw the frame rate; unasked only in a window.")
    ] = None,
    retries: Annotated[int, typer.Option(min=0, metavar="N", help="Open a broken live source again N times.")] = 5,
) -> None:
    """Segment or detect; each frame gives NAME-overlay.png and NAME-labels.png (a palette image of class ids) or
    NAME-boxes.json. Of a camera or stream only the latest frame waits; of files every frame is taken."""
    folder = OUT if out is None and not show else out
    if show:
        from edgeseg.cli._window import open_window

        open_window()
    with open_artifact(artifact) as engine:
        measured = Meter()
        opened = open_source(source, every, retries, measured.say)
        answers = TASKS[engine.manifest.model.task](engine.manifest, legend, opened.moving)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        try:
            with measured.task(f"{answers.verb} {told(source)}", _least(opened.count, limit)):
                rate = opened.moving and (show if fps is None else fps)
                _all(engine, answers, opened, folder, show, rate, limit, measured)
        except KeyboardInterrupt:
            if not (opened.live and measured.done):  # which has no other end
                raise
        finally:
            if measured.done:  # an error or Ctrl-C has not undone them
                made = "frames shown" if folder is None else f"overlays and {answers.made} in {folder}"
                print(f"{measured.done} {made}" + (f"; {measured.rates(measured.mean_fps)}" if opened.moving else ""))


def _least(*counts: int | None) -> int | None:
    return min((count for count in counts if count is not None), default=None)


def _all(
    engine: Engine,
    answers: Answers,
    source: Source,
    folder: Path | None,
    window: bool,
    rate: bool,
    limit: int | None,
    measured: Meter,
) -> None:
    keep = "latest" if source.live else "all"
    with engine.stream(source.frames, keep=keep, resize=True) as results, source:
        for result in itertools.islice(results, limit):
            overlay = answers.draw(result.frame, result.answer)
            if rate:
                overlay = draw_panel(overlay, [(f"{measured.fps:.1f} FPS", None)], right=True)
            if folder is not None:
                answers.save(result.answer, result.stamp, folder)
                write_image(Image.fromarray(overlay), folder / f"{result.stamp}-overlay.png")
            measured.frame(results.dropped)
            if window and not _shown(overlay, wait=not source.moving):
                return


def _shown(overlay: Frame, wait: bool) -> bool:
    from edgeseg.cli._window import show

    return show(overlay, wait)
