"""VGG16's convolutions (arXiv:1409.1556, configuration D) as the first segmentation networks use them.

The modules carry Caffe's names (``conv1_1`` … ``conv5_3``), as do the weights that the authors of FCN and DeepLab
published. torchvision counts the same thirteen layers: ``features.0``, ``features.2``, ``features.5``, ….
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
CAFFE_MEAN = (104.008, 116.669, 122.675)  # of ImageNet, BGR


def layers(block: int) -> list[str]:
    """The names of the convolutions of ``block``, 1 to 5."""
    return [f"conv{block}_{i}" for i in range(1, len(BLOCKS[block - 1]) + 1)]


def initialise(network: nn.Module) -> None:
    """He et al. (arXiv:1502.01852): there is no batch normalisation that would keep the activations' scale."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class VGG16(nn.Module):
    """The five blocks of convolutions, for a network to put its pooling between and its head after.

    ``width`` scales channel counts, ``padding`` is the first convolution's, ``dilation`` the last block's.
    """

    def __init__(self, width: float = 1.0, padding: int = 1, dilation: int = 1) -> None:
        super().__init__()
        inputs = 3
        for block, channels in enumerate(BLOCKS, start=1):
            rate = dilation if block == len(BLOCKS) else 1
            for name, count in zip(layers(block), channels, strict=True):
                pad, outputs = padding if name == "conv1_1" else rate, round(count * width)
                self.add_module(name, nn.Conv2d(inputs, outputs, 3, padding=pad, dilation=rate))
                inputs = outputs
        self.channels = inputs

    def block(self, number: int, x: Tensor) -> Tensor:
        """The convolutions of block ``number``, 1 to 5, each followed by a ReLU."""
        for name in layers(number):
            x = functional.relu(self.get_submodule(name)(x))
        return x


class DilatedVGG16(VGG16):
    """VGG16 at output stride 8 (arXiv:1412.7062, section 3.1): the last two poolings keep the map's size and the last
    block's convolutions are dilated. Pooling windows are 3×3, so that they are centred on pixels.

    N×3×(8h+1)×(8w+1) → N×512×(h+1)×(w+1): a feature stands on every eighth pixel, the corners included.
    """

    def __init__(self) -> None:
        super().__init__(dilation=2)

    def features(self, x: Tensor) -> Tensor:
        for number in range(1, len(BLOCKS) + 1):
            x = functional.max_pool2d(self.block(number, x), 3, stride=2 if number <= 3 else 1, padding=1)
        return x
