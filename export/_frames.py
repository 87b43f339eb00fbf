"""Frames of a dataset, made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import numpy as np
from numpy.typing import NDArray

from edgeseg.datasets import Dataset

Frame = NDArray[np.uint8]


class Frames(Collection[Frame]):
    """``count`` images of ``dataset``, spread over it, as ``fit`` makes frames of them: anew at each iteration, so that
    none is held."""

    def __init__(self, dataset: Dataset, count: int, fit: Callable[[Frame], Frame]) -> None:
        self._dataset, self._fit = dataset, fit
        self._picked = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()

    def __iter__(self) -> Iterator[Frame]:
        for i in self._picked:
            yield self._fit(self._dataset[i].frame)

    def __len__(self) -> int:
        return len(self._picked)

    def __contains__(self, frame: object) -> bool:
        return any(frame is one for one in self)
