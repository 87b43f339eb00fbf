"""The answer of a power meter: energy over one window, or why there is none."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Energy:
    """Energy over one window.

    source: the meter, as in ``open_meter``. covers: what the total is the power of.
    seconds: length of the window.
    joules, average_w, peak_w: of the total; None where no total can be stood by, and ``reasons`` say why.
        The peak is the highest sample; of a counter the highest mean over half a second.
    error: how far sampling alone may put ``joules`` out, as a share of it (two standard deviations). The sensor's own
        accuracy comes on top.
    rails: joules of each rail; some may lie inside others, so do not add them up. None without two samples.
    total_rails: the rails whose sum the total is.
    samples: readings within the window; interval_s between them; coverage: share of the window (0 to 1) they cover.
    idle_w: average power at rest, where a baseline was given.
    above_idle_j: joules less that power over the window.
    cpu_share: CPU time that reading took, as a share of one core.
    """

    source: str
    covers: str
    seconds: float
    joules: float | None
    average_w: float | None
    peak_w: float | None
    error: float | None
    rails: dict[str, float] | None
    total_rails: tuple[str, ...]
    samples: int
    interval_s: float | None
    coverage: float
    cpu_share: float
    idle_w: float | None = None
    above_idle_j: float | None = None
    reasons: tuple[str, ...] = ()

    def mj_per_frame(self, frames: int, *, above_idle: bool = False) -> float | None:
        """Millijoules per frame over all of the window; with ``above_idle`` of what the baseline leaves. None where
        there is no energy. Raises ValueError for no frames."""
        if frames < 1:
            raise ValueError(f"energy per frame of {frames} frames")
        joules = self.above_idle_j if above_idle else self.joules
        return None if joules is None else 1000 * joules / frames

    def json(self) -> dict[str, Any]:
        """As JSON takes it; absent parts are left out."""
        return {name: value for name, value in asdict(self).items() if value is not None and value != ()}
