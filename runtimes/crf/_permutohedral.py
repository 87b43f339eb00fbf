"""Averages under a Gaussian of many dimensions, by the permutohedral lattice.

Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice" (2010): a point gives
its value to the d + 1 corners of the simplex that it lies in, the corners are blurred along the d + 1
directions of the lattice, and each point gathers from its corners. Work and memory grow with the number of
points, not with its square. All points go through each step at once, as arrays.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.errors import InputError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class PermutohedralLattice:
    """The Gaussian exp(-|f_i - f_j|² / 2) of ``features`` f, float32 N×d.

    Raises:
        InputError: the features span more cells than 64 bits can number.
    """

    def __init__(self, features: Floats) -> None:
        origin, rank, weights = enclosing_simplex(features)
        codes, steps = _codes(origin, rank)
        corners = _distinct(codes)
        # A blur loses what would pass through a vertex that is not there: with every corner's neighbours too,
        # the CRF's labels differ from exact ones on half as many pixels, for up to twice the time.
        vertices = _distinct(np.concatenate([corners, *(corners + way * step for step in steps for way in (-1, 1))]))
        self._vertex, self._weights = np.searchsorted(vertices, codes.T), np.ascontiguousarray(weights.T)
        self._neighbours = [_neighbours(vertices, step) for step in steps]
        self._count = len(vertices)
        self._total = self._filter(np.ones((1, len(features)), np.float32))

    def average(self, values: Floats) -> Floats:
        """Each point's mean of ``values`` float32 C×N under its Gaussian, its own value included."""
        mean: Floats = self._filter(values) / self._total
        return mean

    def _filter(self, values: Floats) -> Floats:
        grid = np.zeros((self._count + 1, len(values)), np.float32)  # the last row: vertices that are not there
        vertex = self._vertex.ravel()
        for channel, row in enumerate(values):
            grid[:-1, channel] = np.bincount(vertex, (self._weights * row).ravel(), self._count)
        for before, after in self._neighbours:
            sides = grid.take(before, 0)
            sides += grid.take(after, 0)
            sides *= 0.5
            grid[:-1] += sides
        gathered = np.zeros((values.shape[1], len(values)), np.float32)
        for index, weight in zip(self._vertex, self._weights, strict=True):
            corner = grid.take(index, 0)
            corner *= weight[:, None]
            gathered += corner
        return np.ascontiguousarray(gathered.T)


def enclosing_simplex(features: Floats) -> tuple[Ints, Ints, Floats]:
    """The simplex that each of N points lies in, as section 3 of the paper finds it.

    Returns its corner of remainder 0 (int64 N×(d+1)), the rank of each coordinate's distance from it, the
    farthest first (int64 N×(d+1)), and the barycentric weights of the corners (float32 N×(d+1)).
    """
    elevated = _elevate(features)
    sides = elevated.shape[1]
    nearest = np.rint(elevated / sides).astype(np.int64)
    origin, excess = nearest * sides, nearest.sum(1, keepdims=True)
    rank = np.argsort(np.argsort(origin - elevated, 1, kind="stable"), 1) + excess
    # A point whose nearest multiples do not sum to 0 has its coordinates of the extreme ranks one cell off.
    outside = (rank >= sides).astype(np.int64) - (rank < 0)
    origin, rank = origin - outside * sides, rank - outside * sides
    distance = np.empty_like(elevated)
    np.put_along_axis(distance, rank, (elevated - origin) / sides, 1)
    weights = np.diff(distance[:, ::-1], axis=1, prepend=distance[:, :1] - 1)
    return origin, rank, weights


def _elevate(features: Floats) -> Floats:
    """``features`` on the plane of d + 1 coordinates with sum 0, scaled so that splatting, one blur in each
    direction and slicing together have the Gaussian's variance (section 3.1 of the paper)."""
    d = features.shape[1]
    k = np.arange(1, d + 1)
    basis = np.triu(np.ones((d + 1, d)))
    basis[k, k - 1] = -k
    basis *= math.sqrt(2 / 3) * (d + 1) / np.sqrt(k * (k + 1))
    return features @ basis.T.astype(np.float32)


def _codes(origin: Ints, rank: Ints) -> tuple[Ints, Ints]:
    """A number for each point's d + 1 corners, int64 N×(d+1), linear in their coordinates (of which the last
    follows from the others), and what is added to it to step to the neighbour in each of d + 1 directions."""
    sides = origin.shape[1]
    radix = _radix(origin[:, :-1], margin=3 * sides)  # a corner, its neighbour and that one's: each within one cell
    # Corner k is the origin + k, less d + 1 in the k coordinates of the highest ranks.
    by_rank = np.empty_like(origin)
    np.put_along_axis(by_rank, rank, np.broadcast_to(radix, origin.shape), 1)
    steps = radix.sum() - sides * radix
    climb = radix.sum() - sides * by_rank[:, :0:-1]
    return np.cumsum(np.hstack([(origin @ radix)[:, None], climb]), 1), steps


def _radix(coordinates: Ints, margin: int) -> Ints:
    """Place values of a number system in which no two ``coordinates`` N×d, nor their neighbours, collide."""
    spans = [int(span) + 2 * margin for span in np.ptp(coordinates, axis=0)]
    places = [math.prod(spans[i + 1 :]) for i in range(len(spans))]
    if places[0] * spans[0] >= 2**62:
        raise InputError("the CRF's sigmas are too small for this frame: its lattice has more than 2⁶² cells")
    return np.array([*places, 0])


def _distinct(codes: Ints) -> Ints:
    """Sorted and each once; np.unique takes several times as long on arrays with few repeats."""
    ordered = np.sort(codes, axis=None)
    once: Ints = ordered[np.append(True, ordered[1:] != ordered[:-1])]
    return once


def _neighbours(vertices: Ints, step: np.integer[Any]) -> tuple[Ints, Ints]:
    """For each of the M sorted ``vertices`` the index of the one ``step`` before and after it; M for none."""
    count = len(vertices)
    after = np.searchsorted(vertices, vertices + step)
    after[vertices[np.minimum(after, count - 1)] != vertices + step] = count
    before = np.full(count + 1, count)
    before[after] = np.arange(count)
    return before[:-1], after
