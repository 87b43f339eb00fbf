"""The matrix on several boards at once, by Ray.

Each board is a node of the cluster with a resource of its name (``ray start --address=HOST:PORT
--resources='{"orin-nano": 1}'``). A network on a board is one task that takes that resource whole, so that a board
measures one thing at a time; who runs where and when is Ray's matter. Cells come back one by one and are written here,
whole, one file each: what was stopped goes on where it was. The artifacts of a board go with its task.
Document: docs.ray.io, "Resources" and "Ray generators".
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from edgeseg.benchmarks.matrix import Cell, Cells, MatrixRequest, Row, Run, wanted
from edgeseg.datasets import open_dataset
from edgeseg.errors import InputError, MissingExtra
from edgeseg.models import spec
from edgeseg.progress import Progress, Silent

RAYS_OWN = ("CPU", "GPU", "memory", "object_store_memory", "accelerator_type:", "node:")


def run_on_boards(
    request: MatrixRequest, address: str, boards: Sequence[str] = (), progress: Progress | None = None
) -> list[Run]:
    """The runs of all cells on all ``boards`` (by default every resource whose name is not Ray's own), in that
    order; each says its ``board``. ``address`` as ``ray.init`` takes it.

    Raises:
        MissingExtra: no Ray.
        InputError: no cluster there, a board that it does not have, or an unknown model.
    """
    ray = _ray()
    for model in request.models:
        spec(model.partition(":")[0])
    mine = not ray.is_initialized()
    if mine:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # what Ray raises has no common base
            raise InputError(f"no Ray cluster at {address}: {str(error).strip().splitlines()[0]}") from None
    try:
        names = _boards(ray.cluster_resources(), boards)
        _measure(ray, request, names, progress or Silent())
    finally:
        if mine:
            ray.shutdown()
    rows = [Cells(request.out, model, board) for board in names for model in request.models]
    return [run for cells in rows for run in cells.read(wanted(request))]


def _ray() -> Any:
    try:
        return import_module("ray")
    except ImportError:
        raise MissingExtra("--ray", "ray", "ray") from None


def _boards(resources: dict[str, float], chosen: Sequence[str]) -> list[str]:
    there = sorted(name for name in resources if not name.startswith(RAYS_OWN))
    if missing := [name for name in chosen if name not in there]:
        raise InputError(f"no board {', '.join(missing)} in the cluster: it has {', '.join(there) or 'none'}")
    if not there:
        raise InputError("no node of the cluster names its board: ray start … --resources='{\"NAME\": 1}'")
    return list(chosen) or there


def _measure(ray: Any, request: MatrixRequest, boards: Sequence[str], bars: Progress) -> None:
    remote = ray.remote(num_cpus=0, num_returns="streaming", max_retries=0)(row_on_board)
    tasks: dict[Any, tuple[Cells, list[Cell]]] = {}
    for board in boards:
        for model in request.models:
            cells = Cells(request.out, model, board)
            if missing := cells.missing(wanted(request)):
                task = remote.options(resources={board: 1}).remote(request, model, missing)
                tasks[task] = cells, missing
    with bars.task("matrix on boards", sum(len(missing) for _, missing in tasks.values())) as done:
        while tasks:
            ready, _ = ray.wait(list(tasks), num_returns=1)
            (task,) = ready
            cells, missing = tasks[task]
            try:
                cell, run = ray.get(next(task))
            except StopIteration:
                del tasks[task]
                continue
            except Exception as error:  # the node died, or what it runs is not this version: its cells say so
                reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[-1]}"
                for cell in cells.missing(missing):
                    cells.keep(cell, {"error": f"on {cells.board}: {reason}"})
                    done()
                del tasks[task]
                continue
            cells.keep(cell, run)
            done()


def row_on_board(request: MatrixRequest, model: str, missing: Sequence[Cell]) -> Iterator[tuple[Cell, Run]]:
    """On the board: the ``missing`` cells of ``model``, one by one; artifacts go to a folder of the board's own."""
    with tempfile.TemporaryDirectory(prefix="edgeseg-matrix-") as folder:
        yield from Row(replace(request, out=Path(folder)), model, open_dataset(request.data), Silent()).measure(missing)
