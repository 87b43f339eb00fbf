"""Frames of a dataset, made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from edgeseg.datasets import Dataset

Frame = NDArray[np.uint8]


class Frames(Sequence[Frame]):
    """``count`` images of ``dataset``, spread over it, as ``fit`` makes frames of them: anew each time they are asked
    for, so that none is held."""

    def __init__(self, dataset: Dataset, count: int, fit: Callable[[Frame], Frame]) -> None:
        self._dataset, self._fit = dataset, fit
        self._picked = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()

    @overload
    def __getitem__(self, i: int) -> Frame: ...

    @overload
    def __getitem__(self, i: slice) -> list[Frame]: ...

    def __getitem__(self, i: int | slice) -> Frame | list[Frame]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        return self._fit(self._dataset[self._picked[i]].frame)

    def __len__(self) -> int:
        return len(self._picked)
