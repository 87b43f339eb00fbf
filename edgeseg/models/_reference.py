"""The network in PyTorch, from frame to labels: what every engine is measured against."""

from __future__ import annotations

import os

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from edgeseg.spec import Preprocess


class Reference:
    """``run`` takes a frame and gives logits and labels, with the preprocessing that engines have inside."""

    def __init__(self, module: nn.Module, preprocess: Preprocess) -> None:
        self._module, self._preprocess = module.eval(), preprocess
        # max_unpool2d splits its input evenly among threads and lets them race for a position that two windows
        # write. A power of two divides the usual channel counts, so no two threads share a plane.
        torch.set_num_threads(1 << ((os.cpu_count() or 1).bit_length() - 1))

    def run(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """``frame`` uint8 H×W×3 RGB → logits float32 C×H×W, labels uint8 H×W, both at the frame's size."""
        with torch.inference_mode():
            x = torch.tensor(frame).permute(2, 0, 1)[None].float()
            logits = _resize(self._module(self._normalise(x)), (frame.shape[0], frame.shape[1]))[0]
            return logits.numpy(), logits.argmax(0).to(torch.uint8).numpy()

    def _normalise(self, x: Tensor) -> Tensor:
        p = self._preprocess
        if p.order == "BGR":
            x = x.flip(1)
        x = _resize(x, p.size)
        return (x - torch.tensor(p.mean).view(1, 3, 1, 1)) / torch.tensor(p.std).view(1, 3, 1, 1)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if tuple(x.shape[2:]) == size else interpolate(x, size, mode="bilinear", align_corners=False)
