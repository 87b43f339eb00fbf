"""Weights drawn from a seed: for a network that nobody trained here, so that its engines can be built, held to
PyTorch and timed. Its answers mean nothing.

Fresh weights are chaotic: from layer to layer of a deep network a rounding grows, and where it changes which of two
values is pooled, the answer is another. Trained ones are not. What makes the difference without training is
statistics that fit the layers' inputs and kernels that are smooth (SegNet's logits with half-precision weights: 10 dB
without, 30 dB with).
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor, nn

from edgeseg.datasets import open_dataset
from edgeseg.spec import Variant

PREFIX = "random:"
SCENES, LEAST = 4, 128
SMOOTH = 0.7  # share of a kernel's mean in each of its elements


def settle(network: nn.Module, variant: Variant, stride: int) -> nn.Module:
    """Smooth kernels of the same spread, and for every batch normalisation the statistics of its input on street
    scenes; in a network that has none, kernels under which every map has unit variance there (arXiv:1511.06422).
    Returns ``network`` in evaluation mode."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and min(module.kernel_size) > 1:
            _smooth(module.weight.data)
    norms = [m for m in network.eval().modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    scaled = [] if norms else [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    hooks = [convolution.register_forward_hook(_to_unit_variance) for convolution in scaled]
    with torch.no_grad():
        scenes = _scenes(variant, stride)
        for first in range(0, SCENES, 2):
            network(scenes[first : first + 2])
    for norm in norms:
        norm.momentum = 0.1
    for hook in hooks:
        hook.remove()
    return network.eval()


def _smooth(kernel: Tensor) -> None:
    spread, mean = kernel.std(), kernel.mean((2, 3), keepdim=True)
    mixed = SMOOTH * mean / mean.std().clamp_min(1e-12) + (1 - SMOOTH) * kernel / spread
    kernel.copy_(mixed * spread / mixed.std())


def _to_unit_variance(convolution: nn.Module, _: object, y: Tensor) -> Tensor:
    """A forward hook that scales the convolution, and what it just gave."""
    spread = y.std()
    for values in convolution.parameters():
        values.data /= spread
    return y / spread


def digest(model: str, variant: str, seed: int) -> str:
    """Of what the weights follow from: their last bits differ between machines."""
    return hashlib.sha256(f"{model} {variant} {PREFIX}{seed} torch {torch.__version__}".encode()).hexdigest()


def _scenes(variant: Variant, stride: int) -> Tensor:
    side = -(-LEAST // stride) * stride
    data = open_dataset(f"streets:{SCENES}@{side}x{side}:train")
    frames = [data[i].frame[..., :: -1 if variant.order == "BGR" else 1] for i in range(SCENES)]
    mean, std = (np.array(v, np.float32) for v in (variant.mean, variant.std))
    return torch.stack([torch.from_numpy(((f - mean) / std).transpose(2, 0, 1)) for f in frames])
