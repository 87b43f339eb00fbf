"""The published EfficientDet-Lite0 (a TFLite file whose constants were dequantised) as a state dict.

Constant t8 and those after it are numbered as the graph uses them: the backbone block by block, the BiFPN's
projections, then node after node. Both heads stand behind the last cell's first output, and again, with other folded
batch normalisations, behind each coarser one. Where a convolution took in its batch normalisation, this becomes the
identity plus the offset. The heads share convolutions: their batch normalisations come out as each level's scale of
the finest level's weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from edgeseg.models._backbones.efficientnet import BN_EPS, STAGES

State = dict[str, Tensor]

FIRST, LAST = 8, 331
LEVELS, REPEATS = 5, 3
PROJECTIONS = (
    "fpn.cell.0.fnode.1.combine.resample.2", "fpn.cell.0.fnode.5.combine.resample.2",
    "fpn.cell.0.fnode.2.combine.resample.1", "fpn.cell.0.fnode.4.combine.resample.1",
    "fpn.cell.0.fnode.3.combine.resample.0", "fpn.resample.3",
)  # fmt: skip
PROJECTED = 104
# The first node's depthwise constant stands apart from its others; three a node from 183 on; in the last cell the
# nodes after the first output stand behind the heads of the level before.
NODE, NODES, INTERLEAVED = (116, 181), 183, 272
# Of the finest level, of the next one (2 a convolution, 15 from level to level), and the finest level's last bias.
HEADS = {"box_net": (240, 275, 255), "class_net": (256, 281, 271)}
LEVEL = 15


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether these are that file's constants."""
    return all(f"t{i}" in state for i in range(FIRST, LAST + 1))


def convert(state: Mapping[str, Tensor]) -> State:
    """``state``: the constants by their names in the file. The state dict is that of variant ``lite0`` with 90
    classes, of which class i is COCO's category i + 1."""
    found: State = {}
    for i, (conv, norm) in enumerate(_backbone()):
        found |= {f"{conv}.weight": _kernel(state, FIRST + 2 * i), **_offset(state, norm, FIRST + 2 * i + 1)}
    for i, name in enumerate(PROJECTIONS):
        found |= _normed(state, f"{name}.conv.conv", f"{name}.conv.bn", PROJECTED + 2 * i)
    for name, depthwise, pointwise in _nodes():
        found[f"{name}.conv_dw.weight"] = _kernel(state, depthwise)
        found |= _normed(state, f"{name}.conv_pw", f"{name}.bn", pointwise)
    for head, places in HEADS.items():
        found |= _head(state, head, *places)
    return found


def _kernel(state: Mapping[str, Tensor], index: int) -> Tensor:
    """Output × height × width × input, or 1 × height × width × channels, in PyTorch's order."""
    kernel = state[f"t{index}"]
    return kernel.permute((3, 0, 1, 2) if kernel.shape[0] == 1 else (0, 3, 1, 2)).contiguous()


def _offset(state: Mapping[str, Tensor], name: str, index: int, scale: Tensor | None = None) -> State:
    """Batch normalisation ``name`` that multiplies by ``scale`` (1) and adds constant ``index``."""
    bias = state[f"t{index}"]
    return {
        f"{name}.weight": torch.ones_like(bias) if scale is None else scale,
        f"{name}.bias": bias,
        f"{name}.running_mean": torch.zeros_like(bias),
        f"{name}.running_var": torch.full_like(bias, 1 - BN_EPS),
    }


def _normed(state: Mapping[str, Tensor], conv: str, norm: str, index: int) -> State:
    """A convolution with a bias of its own, which the file left to the batch normalisation."""
    zeros = torch.zeros_like(state[f"t{index + 1}"])
    return {f"{conv}.weight": _kernel(state, index), f"{conv}.bias": zeros, **_offset(state, norm, index + 1)}


def _backbone() -> Iterator[tuple[str, str]]:
    """Convolutions and their batch normalisations, in the order of the graph."""
    yield "backbone.conv_stem", "backbone.bn1"
    for stage, (_, _, _, expansion, blocks) in enumerate(STAGES):
        parts = ("conv_dw", "conv_pw") if expansion == 1 else ("conv_pw", "conv_dw", "conv_pwl")
        for block in range(blocks):
            for i, part in enumerate(parts):
                yield f"backbone.blocks.{stage}.{block}.{part}", f"backbone.blocks.{stage}.{block}.bn{i + 1}"


def _nodes() -> Iterator[tuple[str, int, int]]:
    """The BiFPN's separable convolutions, with the numbers of their depthwise and their 1×1 kernels."""
    names = [f"fpn.cell.{cell}.fnode.{node}.after_combine.conv" for cell in range(3) for node in range(8)]
    yield names[0], *NODE
    for i, name in enumerate(names[1:20]):
        yield name, NODES + 3 * i, NODES + 3 * i + 1
    for i, name in enumerate(names[20:]):
        yield name, INTERLEAVED + LEVEL * i, INTERLEAVED + LEVEL * i + 1


def _head(state: Mapping[str, Tensor], name: str, finest: int, coarser: int, bias: int) -> State:
    found: State = {
        f"{name}.predict.conv_dw.weight": _kernel(state, finest + 3 * REPEATS),
        f"{name}.predict.conv_pw.weight": _kernel(state, finest + 3 * REPEATS + 1),
        f"{name}.predict.conv_pw.bias": state[f"t{bias}"],
    }
    for repeat in range(REPEATS):
        depthwise, pointwise = finest + 3 * repeat, finest + 3 * repeat + 1
        conv, shared = f"{name}.conv_rep.{repeat}", state[f"t{pointwise}"]
        found[f"{conv}.conv_dw.weight"] = _kernel(state, depthwise)
        found[f"{conv}.conv_pw.weight"] = _kernel(state, pointwise)
        found[f"{conv}.conv_pw.bias"] = torch.zeros_like(state[f"t{pointwise + 1}"])
        for level in range(LEVELS):
            at = coarser + 2 * repeat + LEVEL * (level - 1) if level else pointwise
            scale = (state[f"t{at}"] * shared).sum((1, 2, 3)) / shared.square().sum((1, 2, 3))
            found |= _offset(state, f"{name}.bn_rep.{repeat}.{level}.bn", at + 1, scale)
    return found
