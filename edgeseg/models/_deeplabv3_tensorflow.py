"""The constants of TensorFlow's frozen graph ``deeplabv3_mnv2_pascal_trainval`` as DeepLabv3's state dict.

Their names are the graph's with ``|`` for ``/``. A batch normalisation is already merged into its convolution, all but
its offset; those of depthwise convolutions still have their scale. Kernels are HWIO, depthwise ones HWCM.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

EPSILON = 1e-5  # of PyTorch's BatchNorm2d
BLOCKS = 17


def import_state(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """State dict of ``mobilenetv2-voc``; ``state`` itself where it is of another origin."""
    if "MobilenetV2|Conv|Conv2D|merged_input" not in state:
        return state
    found: dict[str, Tensor] = {}
    for theirs, conv, norm in _layers():
        kernel = state.get(f"{theirs}|Conv2D|merged_input")
        if kernel is None:
            found[f"{conv}.weight"] = state[f"{theirs}|depthwise_weights"].permute(2, 3, 0, 1)
        else:
            found[f"{conv}.weight"] = kernel.permute(3, 2, 0, 1)
        offset = state[f"{theirs}|BatchNorm|FusedBatchNorm|Offset"]
        one = torch.ones_like(offset)
        found[f"{norm}.weight"] = state.get(f"{theirs}|BatchNorm|FusedBatchNorm|Scaled", one)
        found[f"{norm}.bias"] = offset
        found[f"{norm}.running_mean"], found[f"{norm}.running_var"] = 0 * one, one - EPSILON
    # Theirs joins the image-level branch first, torchvision last.
    image, local = found["classifier.0.project.0.weight"].chunk(2, 1)
    found["classifier.0.project.0.weight"] = torch.cat((local, image), 1)
    found["classifier.1.weight"] = state["logits|semantic|weights"].permute(3, 2, 0, 1)
    found["classifier.1.bias"] = state["logits|semantic|biases"]
    return {name: tensor.contiguous() for name, tensor in found.items()}


def _layers() -> Iterator[tuple[str, str, str]]:
    """The graph's name of each layer, and ours of its convolution and its batch normalisation."""
    yield "MobilenetV2|Conv", "backbone.features.0.0", "backbone.features.0.1"
    for number in range(BLOCKS):
        theirs = f"MobilenetV2|expanded_conv_{number}" if number else "MobilenetV2|expanded_conv"
        ours = f"backbone.features.{number + 1}.conv"
        kinds = ("expand", "depthwise") if number else ("depthwise",)
        for place, kind in enumerate(kinds):
            yield f"{theirs}|{kind}", f"{ours}.{place}.0", f"{ours}.{place}.1"
        yield f"{theirs}|project", f"{ours}.{len(kinds)}", f"{ours}.{len(kinds) + 1}"
    yield "aspp0", "classifier.0.convs.0.0", "classifier.0.convs.0.1"
    yield "image_pooling", "classifier.0.convs.1.1", "classifier.0.convs.1.2"
    yield "concat_projection", "classifier.0.project.0", "classifier.0.project.1"
