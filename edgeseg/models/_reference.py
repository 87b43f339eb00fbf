"""The network in PyTorch, from frame to answer: what every engine is measured against."""

from __future__ import annotations

import os

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from edgeseg.spec import Preprocess


class _Prepared:
    """A network with the preprocessing that engines have inside."""

    def __init__(self, module: nn.Module, preprocess: Preprocess) -> None:
        self._module, self._preprocess = module.eval(), preprocess
        # max_unpool2d splits its input evenly among threads and lets them race for a position that two windows
        # write. A power of two divides the usual channel counts, so no two threads share a plane.
        torch.set_num_threads(1 << ((os.cpu_count() or 1).bit_length() - 1))

    def _input(self, frame: NDArray[np.uint8]) -> Tensor:
        p, x = self._preprocess, torch.tensor(frame).permute(2, 0, 1)[None].float()
        if p.order == "BGR":
            x = x.flip(1)
        x = _resize(x, p.fitted((frame.shape[0], frame.shape[1])))
        x = (x - torch.tensor(p.mean).view(1, 3, 1, 1)) / torch.tensor(p.std).view(1, 3, 1, 1)
        return pad(x, (0, p.size[1] - x.shape[3], 0, p.size[0] - x.shape[2]))  # letterboxed: 0 is the mean


class Reference(_Prepared):
    """``run`` takes a frame and gives logits and labels."""

    def run(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """``frame`` uint8 H×W×3 RGB → logits float32 C×H×W, labels uint8 H×W, both at the frame's size."""
        with torch.inference_mode():
            logits = _resize(self._module(self._input(frame)), (frame.shape[0], frame.shape[1]))[0]
            return logits.numpy(), logits.argmax(0).to(torch.uint8).numpy()


class DetectionReference(_Prepared):
    """``run`` takes a frame and gives a detector's raw outputs."""

    def run(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``frame`` uint8 H×W×3 RGB → class logits float32 A×C, box deltas float32 A×4."""
        with torch.inference_mode():
            class_logits, box_deltas = self._module(self._input(frame))
            return class_logits[0].numpy(), box_deltas[0].numpy()


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if tuple(x.shape[2:]) == size else interpolate(x, size, mode="bilinear", align_corners=False)
