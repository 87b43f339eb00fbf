"""What an error of a tensor's values counts for in the network's answer, by their magnitude.

Where a range clips decides between two errors: of the few large values that are cut, and of all others, whose step
grows with it. The tensor's own squared error takes all elements for alike. Here each counts by the square of the
answer's derivative, from a backward pass for each frame from a random direction (as in ``layers``), so that the point
that follows is the best for the answer, to second order (the diagonal of Gauss and Newton's matrix; Li et al.,
arXiv:2102.05426, weigh reconstruction errors so). What decides the place of a maximum has no derivative there and is
left unweighed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from edgeseg.export._exact import last_floats
from edgeseg.export.quantize.histogram import Histogram
from edgeseg.export.sensitivity.graph import TorchGraph
from edgeseg.export.sensitivity.layers import deciding, probe


def weigh(
    model: ir.Model,
    histograms: Mapping[str, Histogram],
    frames: Iterable[NDArray[np.uint8]],
    done: Callable[[], None] = lambda: None,
) -> None:
    """Adds to the ``weights`` of ``histograms``, by tensor of the clean float graph ``model``. ``frames`` are uint8
    H×W×3 each; ``done`` is called after each.

    Raises:
        NoCounterpart: an operator that has no counterpart in PyTorch here.
    """
    decide = {name for group in deciding(model) for name in group}
    graph = TorchGraph(model, model, last_floats(model), {k: h for k, h in histograms.items() if k not in decide})
    random = torch.Generator().manual_seed(0)
    for frame in frames:
        probe(graph, frame, random)
        done()
