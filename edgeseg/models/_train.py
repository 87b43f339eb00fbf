r"""A plain trainer: the one that made the packaged weights.

AdamW, cosine learning rate after a warm-up, mirrored and re-exposed frames, frames of half the size for the first part
of the run (a quarter of the work), and an average of the weights over time. What is learnt of a frame, and its loss,
is the task's: edgeseg.models._train_labels, edgeseg.models._train_boxes.
Step k draws its images, its augmentation and its dropout from (seed, k) alone: a run that was stopped and
resumed gives the same weights as one that was not.

The packaged weights learned from ``streets``, procedural scenes::

    edgeseg train enet --data streets:20000@240x320:train --steps 2500 --lr 2e-3 --out first
    edgeseg train enet --data streets:20000@240x320:train --weights first/enet.safetensors --steps 500 \
        --lr 1.5e-3 --seed 1 --coarse 0 --val streets:100@240x320:val --out second

    edgeseg train espnet --data streets:20000@240x320:train --steps 3500 --coarse 0.7 --half \
        --val streets:100@240x320:val
    edgeseg train liteseg --data streets:20000@240x320:train --steps 3500 --coarse 0.7 --half \
        --val streets:100@240x320:val
    edgeseg train efficientdet --data streets:20000@240x320:train --steps 4000 --lr 1.5e-3 --coarse 0.5 --out first
    edgeseg train efficientdet --data streets:20000@240x320:train --steps 3350 --lr 1.5e-3 --coarse 0.5 --half \
        --out first --resume
    edgeseg train efficientdet --data streets:20000@240x320:train --weights first/efficientdet.safetensors \
        --size 384x512 --batch 4 --steps 1200 --lr 1e-3 --seed 1 --coarse 0 --half --val streets:100@240x320:val

EfficientDet's first run was stopped after 2750 steps. Its last sees frames enlarged: half of the objects are less than
20 pixels wide, less than its smallest anchors (AP 6.7 before it, 19.0 after).

Another number of threads sums in another order, so the weights come out close, not equal: ENet's with
``torch.set_num_threads(2)``, the others' with ``OMP_NUM_THREADS=1``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from edgeseg.artifact import whole_file
from edgeseg.datasets import Dataset, Sample
from edgeseg.progress import Progress, Silent
from edgeseg.spec import Preprocess

WARM_UP = 0.05  # of all steps
AVERAGE = 0.99  # weight of the past in the running average of the weights
WEIGHT_DECAY = 2e-4  # the ENet paper's


class Lesson(Protocol):
    """What a network is to learn from ``data``. An example is a frame 3×H×W in 8-bit units and what it shows;
    ``coarse`` ones are of about half the size. ``metric`` is what ``score`` measures: a mean and the classes', in
    points."""

    data: Dataset
    preprocess: Preprocess
    metric: str

    def example(self, sample: Sample, mirror: bool, coarse: bool) -> tuple[Tensor, ...]: ...
    def loss(self, outputs: Any, wanted: Sequence[Tensor]) -> Tensor: ...
    def score(self, network: nn.Module, data: Dataset, progress: Progress) -> tuple[float, NDArray[np.float64]]: ...


@dataclass(frozen=True)
class Recipe:
    """How to train: ``steps`` batches of ``batch`` images, peak learning rate ``lr``, a checkpoint every
    ``save_every`` steps, images drawn by ``workers`` processes beside the trainer (0: by the trainer). The
    first ``coarse`` of all steps see half-size frames."""

    steps: int
    batch: int = 8
    lr: float = 2e-3
    seed: int = 0
    save_every: int = 250
    workers: int = 1
    coarse: float = 0.88


class _Draws(TorchDataset[tuple[Tensor, ...]]):
    """Item k: the k-th example to learn from, of those from ``first`` on."""

    def __init__(self, lesson: Lesson, recipe: Recipe, first: int) -> None:
        self.lesson, self.recipe, self.first = lesson, recipe, first * recipe.batch

    def __len__(self) -> int:
        return self.recipe.steps * self.recipe.batch - self.first

    def __getitem__(self, item: int) -> tuple[Tensor, ...]:
        recipe, data, number = self.recipe, self.lesson.data, self.first + item
        epoch, place = divmod(number, len(data))
        order = np.random.default_rng((recipe.seed, epoch)).permutation(len(data))
        rng = np.random.default_rng((recipe.seed, number, 1))
        mirror = rng.random() < 0.5
        tones = (np.arange(256.0) - 128.0) * rng.uniform(0.8, 1.2) + 128.0 * rng.uniform(0.85, 1.15)
        sample = data[int(order[place])]
        exposed = replace(sample, frame=tones.clip(0, 255).astype(np.uint8)[sample.frame])
        return self.lesson.example(exposed, mirror, number // recipe.batch < recipe.coarse * recipe.steps)


def normalise(frames: Tensor, preprocess: Preprocess) -> Tensor:
    """N×3×H×W in 8-bit units → float32 (frame - mean) / std."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (preprocess.mean, preprocess.std))
    return (frames.float() - mean) / std


def learning_rate(step: int, recipe: Recipe) -> float:
    """A linear warm-up to ``recipe.lr``, then half a cosine down to nothing."""
    warm = max(1, round(WARM_UP * recipe.steps))
    if step < warm:
        return recipe.lr * (step + 1) / warm
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / (recipe.steps - warm)))


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, step: int) -> None:
    """Move the running average towards ``network``; early on it forgets faster."""
    keep = min(AVERAGE, (1 + step) / (10 + step))
    for value, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if value.is_floating_point():
            value.lerp_(new, 1 - keep)
        else:
            value.copy_(new)


@torch.no_grad()
def halve_weights(network: nn.Module) -> None:
    """Round kernels to half precision, in place. Vectors stay: they are small, and some variances are large."""
    for value in filter(_is_kernel, network.state_dict().values()):
        value.copy_(value.half())


def _is_kernel(value: Tensor) -> bool:
    return value.dim() > 1


def save_weights(network: nn.Module, path: Path, metadata: Mapping[str, str], half: bool = False) -> None:
    """Write the weights as safetensors, whole or not at all; ``half`` stores the kernels in half precision."""
    state = {k: v.contiguous() for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    if half:
        state = {k: v.half() if _is_kernel(v) else v for k, v in state.items()}
    with whole_file(path) as part:
        save_file(state, part, dict(metadata))


def _save_state(path: Path, state: dict[str, Any]) -> None:
    with whole_file(path) as part:
        torch.save(state, part)


def train(
    network: nn.Module,
    lesson: Lesson,
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    report: Callable[[int, float], None] | None = None,
) -> nn.Module:
    """Train ``network`` in place.

    ``out`` receives ``state.pt`` (all that a resumed run needs) and ``average.safetensors`` (the weights
    averaged over time) at every checkpoint and at the end.

    Args:
        resume: go on from ``out/state.pt`` where it exists.
        report: called at every checkpoint with the steps done and the mean loss since the last one.

    Returns:
        The averaged network, in evaluation mode.

    Raises:
        InputError: an image does not show what is to be learnt.
    """
    out.mkdir(parents=True, exist_ok=True)
    average = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.lr, weight_decay=WEIGHT_DECAY)
    first = _restore(out / "state.pt", network, average, optimizer) if resume else 0
    total, since = 0.0, first
    network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    with (progress or Silent()).task("train", recipe.steps - first) as done:
        draws = DataLoader(_Draws(lesson, recipe, first), recipe.batch, num_workers=recipe.workers)
        for step, batch in enumerate(draws, first):
            total += _step(network, optimizer, lesson, step, batch, recipe)
            _follow(average, network, step)
            done()
            if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
                if report:
                    report(step + 1, total / (step + 1 - since))
                total, since = 0.0, step + 1
                _save_state(out / "state.pt", _state(step + 1, network, average, optimizer))
                save_weights(average, out / "average.safetensors", {"step": str(step + 1)})
    return average.eval()


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    lesson: Lesson,
    step: int,
    batch: Sequence[Tensor],
    recipe: Recipe,
) -> float:
    """One update of ``network``; the loss before it."""
    torch.manual_seed(recipe.seed * 1_000_003 + step)  # dropout
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, recipe)
    x = normalise(batch[0], lesson.preprocess).contiguous(memory_format=torch.channels_last)
    loss = lesson.loss(network(x), batch[1:])
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach())


def _state(step: int, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {
        "step": step,
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }


def _restore(path: Path, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load what ``_state`` saved; the step to go on from, 0 when there is nothing to load."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    network.load_state_dict(state["network"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
