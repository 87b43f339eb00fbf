"""Brings a quantized graph nearer to the float one: its weights learn, on the calibration frames, to give the float
graph's answers in spite of their own rounding and of everybody else's.

So much is in the literature by layer or block (arXiv:2004.10568, arXiv:2102.05426); here the whole network is one
block, and the distance is that of its answers. Scales stay as they were calibrated, so all that is said of them holds.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeseg.export._exact import last_floats
from edgeseg.export.quantize.store import Damaged, Facts, Store
from edgeseg.export.tune.graph import TorchGraph
from edgeseg.export.tune.tuned import Tuned, unpacked
from edgeseg.progress import Progress

PASSES, MOST = 4, 256  # over the frames; steps of one frame each
RATE = 1e-3  # of the first steps, relative to a tensor's mean magnitude
JUDGES = 8  # frames
Frame = NDArray[np.uint8]
Distance = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


def tune(
    exact: ir.Model, rounded: ir.Model, levels: int, frames: Sequence[Frame], distance: Distance,
    facts: Facts, store: Store | None, bars: Progress,
) -> Tuned:  # fmt: skip
    """The weights of the convolutions that ``rounded``, the Q/DQ graph of ``exact``, has in int8 with ``levels`` on
    either side; none where tuning brings it no nearer. ``frames`` are uint8 H×W×3 each; ``distance`` is one of
    ``edgeseg.export.tune.distance``; ``facts`` are what all this follows from, and where ``store`` has its outcome that
    is returned.

    Raises:
        InputError: an operator that has no counterpart in PyTorch here.
    """
    if store is not None:
        with contextlib.suppress(Damaged):
            if (kept := store.recall(facts)) is not None:
                bars.note("tuned weights: the kept ones, nothing changed since")
                return unpacked(kept)
    with bars.task("tune weights", _steps(frames)) as done:
        found = _tune(exact, rounded, levels, frames, distance, done)
    if store is not None:
        with contextlib.suppress(OSError):  # a line on the folder came with the calibration
            store.keep(facts, found.packed())
    return found


def _tune(
    exact: ir.Model, rounded: ir.Model, levels: int, frames: Sequence[Frame], distance: Distance,
    done: Callable[[], None],
) -> Tuned:  # fmt: skip
    graph, teacher = (TorchGraph(model, exact, last_floats(model), levels) for model in (rounded, exact))

    def loss(frame: Frame) -> Tensor:
        given = torch.from_numpy(frame[None])
        with torch.no_grad():
            wanted = teacher.run(given)
        return distance(wanted, graph.run(given))

    def judged() -> float:
        picked = np.linspace(0, len(frames) - 1, min(JUDGES, len(frames))).round().astype(int)
        with torch.no_grad():
            return float(np.mean([loss(frames[int(i)]).item() for i in picked]))

    before = judged()
    _descend(graph.parameters(), loss, frames, done)
    after = judged()
    if not after < before:
        return Tuned({}, {}, (before, before), 0)
    weights, biases = (
        {name: values.detach().numpy() for name, values in found.items()} for found in (graph.weights, graph.biases)
    )
    return Tuned(weights, biases, (before, after), _steps(frames))


def _descend(
    parameters: Sequence[Tensor], loss: Callable[[Frame], Tensor], frames: Sequence[Frame], done: Callable[[], None]
) -> None:
    """By Adam, at a rate that rises in the first tenth and falls as a cosine; every other frame is mirrored."""
    random, count = np.random.default_rng(0), _steps(frames)
    rates = [RATE * max(values.detach().abs().mean().item(), 1e-6) for values in parameters]
    optimizer = torch.optim.Adam(
        [{"params": [p], "lr": r} for p, r in zip(parameters, rates, strict=True)], betas=(0.9, 0.99)
    )
    order = np.concatenate([random.permutation(len(frames)) for _ in range(PASSES)])[:count]
    for step, i in enumerate(order):
        part = 0.5 * (1 + math.cos(math.pi * step / count)) * min(1.0, 10 * (step + 1) / count)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = part * rate
        frame = frames[int(i)]
        optimizer.zero_grad()
        loss(np.ascontiguousarray(frame[:, ::-1]) if random.random() < 0.5 else frame).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        done()


def _steps(frames: Sequence[Frame]) -> int:
    return min(PASSES * len(frames), MOST)
