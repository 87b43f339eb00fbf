"""The plan of a street: where road, pavement and buildings lie, in street coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FAR = 220.0


@dataclass(frozen=True)
class Street:
    """``half`` is half the road's width, ``pavement`` the pavements', ``setback`` how far beyond them the
    buildings stand (metres). ``crossing`` is the z range of a road across, ``zebra`` a zebra's nearest z."""

    half: float
    pavement: float
    setback: tuple[float, float]
    grass: tuple[bool, bool]
    crossing: tuple[float, float]
    zebra: float
    dashes: bool
    edge_lines: bool

    @property
    def kerb(self) -> float:
        """|x| of the pavement's outer edge."""
        return self.half + self.pavement

    def front(self, side: int) -> float:
        """|x| of the buildings on the left (-1) or the right (+1)."""
        return self.kerb + self.setback[(side + 1) // 2]

    def in_crossing(self, z: float, margin: float = 0.5) -> bool:
        """Whether things at the roadside must not stand at ``z``."""
        return self.crossing[0] - margin < z < self.crossing[1] + margin


def sample_street(rng: np.random.Generator) -> Street:
    """A lane, a street or an avenue."""
    start = float(rng.uniform(8.0, 60.0)) if rng.random() < 0.4 else 2.0 * FAR
    set_left, set_right = np.where(rng.random(2) < 0.45, 0.0, rng.uniform(1.0, 9.0, 2)).tolist()
    left, right = (rng.random(2) < 0.65).tolist()
    return Street(
        half=float(rng.uniform(2.6, 7.5)),
        pavement=float(rng.uniform(1.4, 4.0)),
        setback=(set_left, set_right),
        grass=(left, right),
        crossing=(start, start + float(rng.uniform(5.0, 9.0))),
        zebra=float(rng.uniform(4.0, 40.0)) if rng.random() < 0.35 else 2.0 * FAR,
        dashes=bool(rng.random() < 0.75),
        edge_lines=bool(rng.random() < 0.4),
    )
