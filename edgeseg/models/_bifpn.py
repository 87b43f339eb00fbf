"""BiFPN: maps of several scales, mixed top-down and bottom-up (EfficientDet, arXiv:1911.09070, section 3).

Modules carry the names of github.com/rwightman/efficientdet-pytorch (effdet, tf_efficientdet_*).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeseg.models._backbones.efficientnet import Conv2dSame, activation, depthwise, norm

EPSILON = 1e-4  # of fast normalized fusion, section 3.3


def nodes(levels: int) -> list[tuple[int, tuple[int, ...]]]:
    """Figure 2d for ``levels`` maps, finest first: each node's level and the maps it mixes. Maps are numbered
    as they come to be: the inputs, then the nodes' outputs."""
    known = {level: [level] for level in range(levels)}
    found: list[tuple[int, tuple[int, ...]]] = []
    for level in range(levels - 2, -1, -1):
        found.append((level, (known[level][-1], known[level + 1][-1])))
        known[level].append(levels + len(found) - 1)
    for level in range(1, levels):
        found.append((level, (*known[level], known[level - 1][-1])))
        known[level].append(levels + len(found) - 1)
    return found


def halve(x: Tensor) -> Tensor:
    """Maximum over 3×3 windows at stride 2 with TensorFlow's SAME padding: an even size is padded at its end only."""
    height, width = x.shape[2:]
    return functional.max_pool2d(x, 3, 2, (height % 2, width % 2), ceil_mode=True)


def _to(x: Tensor, size: Sequence[int]) -> Tensor:
    if x.shape[2] > size[0] and x.shape[3] > size[1]:
        return halve(x)
    return x if tuple(x.shape[2:]) == tuple(size) else functional.interpolate(x, list(size), mode="nearest")


class SeparableConv(nn.Module):
    """Depthwise 3×3 → 1×1 → batch normalisation, where there is one."""

    def __init__(self, inputs: int, outputs: int, bn: nn.Module | None = None) -> None:
        super().__init__()
        self.conv_dw = depthwise(inputs, 3)
        self.conv_pw = Conv2dSame(inputs, outputs, 1, bias=True)
        self.bn = bn or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv_pw(self.conv_dw(x)))
        return out


class _Projection(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.bn = Conv2dSame(inputs, outputs, 1, bias=True), norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x))
        return out


def _projection(inputs: int, outputs: int) -> nn.Sequential:
    """1×1 convolution with batch normalisation; nothing where the numbers of channels agree."""
    layers = {} if inputs == outputs else {"conv": _Projection(inputs, outputs)}
    return nn.Sequential(OrderedDict(layers))


class Combine(nn.Module):
    """Maps of several sizes and depths as one: their sum, or with ``weighted`` their fast normalized fusion."""

    def __init__(self, offsets: Sequence[int], inputs: Sequence[int], channels: int, weighted: bool) -> None:
        super().__init__()
        self.offsets = tuple(offsets)
        self.resample = nn.ModuleDict({str(o): _projection(inputs[o], channels) for o in offsets})
        self.edge_weights = nn.Parameter(torch.ones(len(self.offsets))) if weighted else None

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """``maps`` by their numbers, ``size`` the (height, width) of the result."""
        parts = [_to(resample(maps[o]), size) for o, resample in zip(self.offsets, self.resample.values(), strict=True)]
        if self.edge_weights is not None:
            weights = torch.relu(self.edge_weights)
            weights = weights / (weights.sum() + EPSILON)
            parts = [part * weights[i] for i, part in enumerate(parts)]
        mixed = parts[0]
        for part in parts[1:]:
            mixed = mixed + part
        return mixed


class Node(nn.Module):
    """Combine → activation → separable convolution."""

    def __init__(self, offsets: Sequence[int], inputs: Sequence[int], channels: int, lite: bool, weighted: bool):
        super().__init__()
        self.combine = Combine(offsets, inputs, channels, weighted)
        conv = SeparableConv(channels, channels, norm(channels))
        self.after_combine = nn.Sequential(OrderedDict(act=activation(lite), conv=conv))

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        out: Tensor = self.after_combine(self.combine(maps, size))
        return out


class Cell(nn.Module):
    """One pass down and up. ``inputs``: the channels of its input maps."""

    def __init__(self, inputs: Sequence[int], channels: int, lite: bool, weighted: bool) -> None:
        super().__init__()
        plan = nodes(len(inputs))
        known = [*inputs, *[channels] * len(plan)]
        self.levels = [level for level, _ in plan]
        self.fnode = nn.ModuleList(Node(offsets, known, channels, lite, weighted) for _, offsets in plan)

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        maps = list(inputs)
        for level, node in zip(self.levels, self.fnode, strict=True):
            maps.append(node(maps, inputs[level].shape[2:]))
        return maps[-len(inputs) :]


class BiFpn(nn.Module):
    """The backbone's maps (channels ``inputs``), and coarser ones up to ``levels``, through ``repeats`` cells."""

    def __init__(
        self, inputs: Sequence[int], channels: int, repeats: int, levels: int, lite: bool, weighted: bool
    ) -> None:
        super().__init__()
        coarser = range(len(inputs), levels)
        self.resample = nn.ModuleDict(
            {str(level): _projection(channels if i else inputs[-1], channels) for i, level in enumerate(coarser)}
        )
        first = [*inputs, *[channels] * len(coarser)]
        self.cell = nn.ModuleList(
            Cell([channels] * levels if i else first, channels, lite, weighted) for i in range(repeats)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Finest first; each of the ``levels`` maps has ``channels``."""
        found = list(maps)
        for resample in self.resample.values():
            found.append(halve(resample(found[-1])))
        for cell in self.cell:
            found = cell(found)
        return found
