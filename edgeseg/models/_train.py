r"""A plain trainer for semantic segmentation: the one that made the packaged weights.

AdamW, cosine learning rate after a warm-up, cross-entropy with the class weights of the ENet paper
(arXiv:1606.02147, section 5.1), mirrored and re-exposed frames, frames of half the size for the first part
of the run (a quarter of the work), and an average of the weights over time.
Step k draws its images, its augmentation and its dropout from (seed, k) alone: a run that was stopped and
resumed gives the same weights as one that was not.

``weights/enet-streets.safetensors`` is ENet ``paper``, trained twice in a row on ``streets``; the second run
starts from the weights of the first and sees whole frames only::

    edgeseg train enet --data streets:20000@240x320:train --steps 2500 --lr 2e-3 --out first
    edgeseg train enet --data streets:20000@240x320:train --weights first/enet.safetensors --steps 500 \
        --lr 1.5e-3 --seed 1 --coarse 0 --val streets:100@240x320:val --out second

It was trained with ``torch.set_num_threads(2)``; another number of threads sums in another order, so the
weights come out close, not equal.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from edgeseg.datasets import Dataset, Sample
from edgeseg.errors import InputError
from edgeseg.images import resize_frame, resize_labels
from edgeseg.metrics import confusion, miou
from edgeseg.models._reference import Reference
from edgeseg.progress import Progress, Silent
from edgeseg.spec import Preprocess

WARM_UP = 0.05  # of all steps
AVERAGE = 0.99  # weight of the past in the running average of the weights
WEIGHT_DECAY = 2e-4  # the paper's
# w = 1 / ln(floor + share of pixels). The paper's 1.02 weighs a rare class up to 14 times the road; 1.1,
# 4 times.
WEIGHT_FLOOR = 1.1
AUXILIARY = 0.4  # weight of an auxiliary head's loss (PSPNet, arXiv:1612.01105, section 3.3)
SAMPLED = 64  # images that the shares of the classes are counted on


@dataclass(frozen=True)
class Recipe:
    """How to train: ``steps`` batches of ``batch`` images, peak learning rate ``lr``, a checkpoint every
    ``save_every`` steps, images drawn by ``workers`` processes beside the trainer (0: by the trainer). The
    first ``coarse`` of all steps see half-size frames, cut down to multiples of the network's ``stride``."""

    steps: int
    batch: int = 8
    lr: float = 2e-3
    seed: int = 0
    save_every: int = 250
    workers: int = 1
    coarse: float = 0.88
    stride: int = 8


class _Draws(TorchDataset[tuple[Tensor, Tensor]]):
    """Item k: the k-th image to learn from, frame uint8 3×H×W and labels int64 H×W."""

    def __init__(self, data: Dataset, preprocess: Preprocess, seed: int, first: int, last: int) -> None:
        self.data, self.preprocess, self.seed, self.first, self.last = data, preprocess, seed, first, last

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        epoch, place = divmod(self.first + item, len(self.data))
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.data))
        frame, labels = fit(self.data[int(order[place])], self.preprocess)
        rng = np.random.default_rng((self.seed, self.first + item, 1))
        if rng.random() < 0.5:
            frame, labels = frame[:, ::-1], labels[:, ::-1]
        tones = (np.arange(256.0) - 128.0) * rng.uniform(0.8, 1.2) + 128.0 * rng.uniform(0.85, 1.15)
        frame = tones.clip(0, 255).astype(np.uint8)[frame]
        return torch.from_numpy(frame.transpose(2, 0, 1).copy()), torch.from_numpy(labels.astype(np.int64))


def fit(sample: Sample, preprocess: Preprocess) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Frame and labels at the network's input size, the frame in its channel order.

    Raises:
        InputError: the sample has no labels.
    """
    if sample.labels is None:
        raise InputError(f"{sample.name} has no labels to learn from: give --data with labels")
    frame = resize_frame(sample.frame, preprocess.size)
    labels = resize_labels(sample.labels, preprocess.size)
    return (frame[..., ::-1] if preprocess.order == "BGR" else frame), labels


def class_weights(data: Dataset) -> Tensor:
    """Weight of each class in the loss, from the shares of pixels over some images spread over ``data``."""
    counts = np.zeros(256, np.int64)
    for index in np.linspace(0, len(data) - 1, min(SAMPLED, len(data))).astype(int).tolist():
        labels = data[index].labels
        counts += 0 if labels is None else np.bincount(labels.ravel(), minlength=256)
    share = counts[: len(data.classes)] / max(int(counts[: len(data.classes)].sum()), 1)
    return torch.from_numpy(1.0 / np.log(WEIGHT_FLOOR + share)).float()


def normalise(frames: Tensor, preprocess: Preprocess) -> Tensor:
    """uint8 N×3×H×W → float32 (frame - mean) / std."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (preprocess.mean, preprocess.std))
    return (frames.float() - mean) / std


def halve(frames: Tensor, labels: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Frames N×3×H×W (averaged) and labels N×H×W (nearest) at about half their size."""
    height, width = (max(stride, n // 2 // stride * stride) for n in labels.shape[1:])
    small = functional.interpolate(frames.float(), (height, width), mode="area")
    nearest = functional.interpolate(labels[:, None].float(), (height, width), mode="nearest-exact")
    return small, nearest[:, 0].long()


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


def save_weights(network: nn.Module, path: Path, metadata: Mapping[str, str]) -> None:
    """Write the weights as safetensors, whole or not at all."""
    state = {k: v.contiguous() for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file(state, part, dict(metadata))
    part.chmod(0o644)  # safetensors lets only the owner read
    os.replace(part, path)


def _save_state(path: Path, state: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def mean_iou(
    network: nn.Module, data: Dataset, preprocess: Preprocess, progress: Progress | None = None
) -> tuple[float, NDArray[np.float64]]:
    """Mean intersection over union and that of each class over ``data``, in points (0 to 100)."""
    reference, n = Reference(network, preprocess), len(data.classes)
    counts = np.zeros((n, n), np.int64)
    with (progress or Silent()).task("validate", len(data)) as done:
        for index in range(len(data)):
            sample = data[index]
            if sample.labels is not None:
                _, answer = reference.run(sample.frame)
                counts += confusion(sample.labels, answer, n, data.ignore_index)
            done()
    return miou(counts, data.ignore_index)


def train(
    network: nn.Module,
    data: Dataset,
    preprocess: Preprocess,
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    report: Callable[[int, float], None] | None = None,
) -> nn.Module:
    """Train ``network`` in place on ``data``.

    ``out`` receives ``state.pt`` (all that a resumed run needs) and ``average.safetensors`` (the weights
    averaged over time) at every checkpoint and at the end.

    Args:
        preprocess: the network's input; images of another size are resized to it.
        resume: go on from ``out/state.pt`` where it exists.
        report: called at every checkpoint with the steps done and the mean loss since the last one.

    Returns:
        The averaged network, in evaluation mode.

    Raises:
        InputError: an image has no labels.
    """
    out.mkdir(parents=True, exist_ok=True)
    average = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.lr, weight_decay=WEIGHT_DECAY)
    first = _restore(out / "state.pt", network, average, optimizer) if resume else 0
    loss_of, total, since = _Loss(data), 0.0, first
    draws = _Draws(data, preprocess, recipe.seed, first * recipe.batch, recipe.steps * recipe.batch)
    network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    with (progress or Silent()).task("train", recipe.steps - first) as done:
        for step, batch in enumerate(DataLoader(draws, recipe.batch, num_workers=recipe.workers), first):
            total += _step(network, optimizer, loss_of, step, batch, preprocess, recipe)
            _follow(average, network, step)
            done()
            if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
                if report:
                    report(step + 1, total / (step + 1 - since))
                total, since = 0.0, step + 1
                _save_state(out / "state.pt", _state(step + 1, network, average, optimizer))
                save_weights(average, out / "average.safetensors", {"step": str(step + 1)})
    return average.eval()


class _Loss:
    """Cross-entropy, weighted by class, of logits N×C×h×w, brought to the labels' size, and labels N×H×W. Auxiliary
    logits behind the first count less."""

    def __init__(self, data: Dataset) -> None:
        self._weights = class_weights(data)
        self._ignore = -100 if data.ignore_index is None else data.ignore_index

    def __call__(self, outputs: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
        main, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        return self._of(main, labels) + AUXILIARY * sum(self._of(logits, labels) for logits in auxiliary)

    def _of(self, logits: Tensor, labels: Tensor) -> Tensor:
        size = labels.shape[1:]
        if logits.shape[2:] != size:
            logits = functional.interpolate(logits, size, mode="bilinear", align_corners=False)
        return functional.cross_entropy(logits, labels, self._weights, ignore_index=self._ignore)


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_of: _Loss,
    step: int,
    batch: tuple[Tensor, Tensor],
    preprocess: Preprocess,
    recipe: Recipe,
) -> float:
    """One update of ``network``; the loss before it."""
    frames, labels = batch
    torch.manual_seed(recipe.seed * 1_000_003 + step)  # dropout
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, recipe)
    if step < recipe.coarse * recipe.steps:
        frames, labels = halve(frames, labels, recipe.stride)
    x = normalise(frames, preprocess).contiguous(memory_format=torch.channels_last)
    loss = loss_of(network(x), labels)
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
