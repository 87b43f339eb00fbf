"""Networks × targets × precisions: each cell built, held to PyTorch and timed; one file a cell, written whole.

A run that was stopped goes on where it was: a cell whose file is there is not measured again. What fails is a
cell too, with its reason, and stops nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from edgeseg.artifact import load, write_whole
from edgeseg.benchmarks import latency, parity
from edgeseg.benchmarks.logits import sqnr
from edgeseg.datasets import Dataset, open_dataset
from edgeseg.errors import EdgesegError, MissingExtra
from edgeseg.export import BuildRequest, build
from edgeseg.models import packaged, packaged_size, spec
from edgeseg.progress import Progress, Silent

Run = dict[str, Any]
Cell = tuple[str, str]  # target, precision
LEAST_DB = {"fp32": 60.0, "fp16": 40.0}  # on logits; int8 is judged by the task's metric
UNTRAINED = "random:1"
FRAMES = 8  # timed at least: some networks take seconds for one


@dataclass(frozen=True)
class MatrixRequest:
    """``models`` as NAME or NAME:VARIANT; networks without packaged weights take random ones. ``data`` is what
    engines are compared on (``limit`` frames), ``calibration`` what int8 is calibrated on. ``size`` is the networks'
    input: by default the frames' for networks with packaged weights, each one's own for the others."""

    models: tuple[str, ...]
    targets: tuple[str, ...]
    precisions: tuple[str, ...]
    data: str
    calibration: str
    out: Path
    size: tuple[int, int] | None = None
    limit: int | None = None
    seconds: float = 3.0


def run_matrix(request: MatrixRequest, progress: Progress | None = None) -> list[Run]:
    """The runs of all cells, in the order of the request.

    Raises:
        InputError: an unknown model, or data that does not open.
    """
    bars, dataset = progress or Silent(), open_dataset(request.data)
    for model in request.models:
        spec(model.partition(":")[0])
    runs: list[Run] = []
    with bars.task("matrix", len(request.models)) as done:
        for model in request.models:
            cells = Cells(request.out, model)
            for cell, run in Row(request, model, dataset, bars).measure(cells.missing(wanted(request))):
                cells.keep(cell, run)
            runs += cells.read(wanted(request))
            done()
    return runs


def wanted(request: MatrixRequest) -> list[Cell]:
    """The cells of each network, in order."""
    return [(t, p) for t in request.targets for p in request.precisions]


@dataclass(frozen=True)
class Cells:
    """The files of one network's cells, on ``board`` where several are measured."""

    out: Path
    model: str
    board: str = ""

    def missing(self, cells: Sequence[Cell]) -> list[Cell]:
        return [cell for cell in cells if not self._file(cell).is_file()]

    def read(self, cells: Sequence[Cell]) -> list[Run]:
        return [json.loads(self._file(cell).read_text(encoding="utf-8")) for cell in cells]

    def keep(self, cell: Cell, run: Run) -> None:
        """Written whole or not at all."""
        name, _, variant = self.model.partition(":")
        identity = {"model": name, "variant": variant, "target": cell[0], "precision": cell[1]}
        identity |= {"board": self.board} if self.board else {}
        write_whole(self._file(cell), json.dumps({**identity, **run}, indent=1))

    def _file(self, cell: Cell) -> Path:
        name, _, variant = self.model.partition(":")
        words = "-".join(part for part in (self.board, name, variant, *cell) if part)
        return self.out / "cells" / f"{words}.json"


class Row:
    """One network."""

    def __init__(self, request: MatrixRequest, model: str, dataset: Dataset, bars: Progress) -> None:
        self.request, self.dataset, self.bars = request, dataset, bars
        self.model, _, self.variant = model.partition(":")
        self.trained = self.model in packaged() and not self.variant
        self.answers = parity.Answers()

    def measure(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Run]]:
        """Each of ``cells`` with its run, or with the reason that there is none."""
        paths = self._build(cells)
        for cell in cells:
            found = paths[cell]
            yield cell, {"error": found} if isinstance(found, str) else self._measured(found, cell[1])

    def _build(self, cells: Sequence[Cell]) -> dict[Cell, Path | str]:
        """Each cell's artifact, or why there is none. All in one go, which captures once; where that fails, one by
        one, so that a failure is its own cell's."""
        try:
            if len(cells) > 1:  # the row anew, what is there of it too: capture and calibration cost the most
                paths = build(self._request(self.request.targets, self.request.precisions), self.bars)
                return dict(zip(wanted(self.request), paths, strict=True))
        except MissingExtra:
            raise
        except Exception:  # whatever a vendor's compiler raises: found again below, by cell
            pass
        found: dict[Cell, Path | str] = {}
        for target, precision in cells:
            try:
                found[target, precision] = build(self._request((target,), (precision,)), self.bars)[0]
            except Exception as error:
                found[target, precision] = _reason(error)
        return found

    def _request(self, targets: tuple[str, ...], precisions: tuple[str, ...]) -> BuildRequest:
        request = BuildRequest(
            model=self.model, variant=self.variant or None, size=self.request.size, targets=targets,
            precisions=precisions, data=self.request.calibration, out=self.request.out / "artifacts",
        )  # fmt: skip
        if not self.trained:
            return replace(request, weights=UNTRAINED, classes=len(self.dataset.classes))
        frame = cast(tuple[int, int], self.dataset[0].frame.shape[:2])
        return replace(request, size=request.size or packaged_size(self.model, frame), frame=frame)

    def _measured(self, path: Path, precision: str) -> Run:
        try:
            found = parity.check(
                path, self.dataset, limit=self.request.limit, progress=self.bars, answers=self.answers
            ).to_json()
            if "sqnr_db" not in found:  # the engine's outputs hide it
                found["sqnr_db"] = sqnr(path, self.dataset)
            if precision in LEAST_DB:
                found["passed"] = found["sqnr_db"] >= LEAST_DB[precision]
            elif not self.trained:
                found["passed"] = None
            if not self.trained:
                found = _without_scores(found)
            manifest = load(path).manifest
            about = {"trained": self.trained, "frame": list(manifest.frame), "artifact": str(path)}
            speed = latency.bench(path, seconds=self.request.seconds, least=FRAMES, progress=self.bars)
            return {**about, "parity": found, **speed}
        except Exception as error:
            return {"artifact": str(path), "error": _reason(error)}


def _without_scores(found: Run) -> Run:
    """What untrained weights score on the task means nothing."""
    kept = {k: v for k, v in found.items() if k not in ("metric", "reference", "engine", "drop", "per_class")}
    for part in ("quantization", "engine_error"):
        if part in kept:
            kept[part] = {"agreement": kept[part]["agreement"]}
    return kept


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines() or [type(error).__name__]
    return text[0] if isinstance(error, EdgesegError) else f"{type(error).__name__}: {text[0]}"
