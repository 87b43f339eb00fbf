"""Parameters and multiply-accumulates of a network."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def parameters(module: nn.Module) -> int:
    """Learned numbers; running statistics are not learned."""
    return sum(p.numel() for p in module.parameters())


def gmacs(module: nn.Module, size: tuple[int, int]) -> float:
    """10⁹ multiply-accumulates of the convolutions and linear layers for one 3×H×W input of ``size``.

    Only shapes are computed, so that the largest network at its full size costs nothing."""
    total = 0
    module = copy.deepcopy(module).to("meta")

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, Tensor)
        if isinstance(layer, nn.ConvTranspose2d):  # each input position is multiplied with the whole kernel
            total += weight.numel() * inputs[0].numel() // weight.shape[0]
        elif isinstance(layer, nn.Linear):
            total += weight.numel() * inputs[0].numel() // inputs[0].shape[-1]
        else:
            total += weight[0].numel() * output.numel()

    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, 3, *size, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    return total / 1e9
