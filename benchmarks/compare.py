"""Two measurements side by side: whether the second is slower, and how sure that is.

The ratio of medians gets a 95 % interval by bootstrap: frames of one run hang together (clocks, other work), so blocks
of consecutive frames are drawn, not frames (Künsch, "The jackknife and the bootstrap for general stationary
observations", Annals of Statistics 17, 1989). What differs from process to process is not in the interval; the
tolerance is what one grants for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.errors import InputError

Run = Mapping[str, Any]
Frames = NDArray[np.float64]
DRAWS, BLOCKS, SEED = 2000, 20, 0
TOLERANCE = 0.05
LEAST = 2 * BLOCKS  # frames of a run
# What must be the same for times to compare; versions may differ, since they are often what one compares.
ALIKE: tuple[tuple[str, ...], ...] = (
    ("cpu", "model"), ("cpu", "board"), ("cpu", "usable_cores"), ("cpu", "governor"), ("cpu", "min_mhz"),
    ("cpu", "max_mhz"), ("clocks_locked",), ("power_mode",), ("threads",),
)  # fmt: skip


@dataclass(frozen=True)
class Ratio:
    """How many times as long the second's median frame takes, with the interval's ends."""

    ratio: float
    low: float
    high: float

    def verdict(self, tolerance: float) -> str:
        """``slower`` or ``faster``: surely by more than the tolerance; ``same``: surely by less; else ``unsure``."""
        if self.low > 1 + tolerance:
            return "slower"
        if self.high < 1 / (1 + tolerance):
            return "faster"
        return "same" if self.low >= 1 / (1 + tolerance) and self.high <= 1 + tolerance else "unsure"


@dataclass(frozen=True)
class Comparison:
    """One pair of runs; ``name`` as model, target, precision; ``versions`` that differ, first → second; ``unlike``: why
    the two do not compare, where it was said that they shall nevertheless."""

    name: str
    first_ms: float
    second_ms: float
    ratio: float
    low: float
    high: float
    verdict: str
    versions: tuple[str, ...]
    unlike: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        return asdict(self)


def read_runs(path: Path) -> list[Run]:
    """The runs of a document of ``bench --json`` or ``matrix``. Raises InputError where the file is no such thing."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        runs = [run for run in document["runs"] if "error" not in run]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} holds no runs: write it with edgeseg bench --json or edgeseg matrix") from None
    if not runs or any("frames_us" not in run for run in runs):
        raise InputError(f"{path} has no frame times (frames_us): measure again with this edgeseg")
    return runs


def compare(
    first: Sequence[Run], second: Sequence[Run], *, tolerance: float = TOLERANCE, unlike: bool = False
) -> list[Comparison]:
    """Pairs of the same model, variant, target and precision; of one run each also where these differ.

    Raises:
        InputError: nothing to pair, too few frames, a bad tolerance; stamps unlike or not valid, unless ``unlike``.
    """
    if not 0 < tolerance < 1:
        raise InputError(f"the tolerance must lie between 0 and 1, not {tolerance:g}")
    found = [_pair(a, b, tolerance, unlike) for a, b in _pairs(first, second)]
    if not found:
        raise InputError("the two files have no engine in common: same model, target and precision")
    return found


def ratio(first: Frames, second: Frames) -> Ratio:
    """Of two runs' frame times in the order taken; seeded, so the same times give the same interval."""
    rng = np.random.default_rng(SEED)
    draws = _medians(second, rng) / _medians(first, rng)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Ratio(float(np.median(second) / np.median(first)), float(low), float(high))


def differences(a: Run, b: Run) -> list[str]:
    """Why the two runs' times do not compare."""
    found = []
    for path in ALIKE:
        one, other = (_at(run["validity"], path) for run in (a, b))
        if one != other:
            found.append(f"{' '.join(path)}: {one} and {other}")
    for which, run in (("first", a), ("second", b)):
        if not run["validity"]["valid"]:
            found.append(f"the {which} is not valid: {'; '.join(run['validity']['reasons'])}")
    return found


def _pairs(first: Sequence[Run], second: Sequence[Run]) -> list[tuple[Run, Run]]:
    if len(first) == len(second) == 1:
        return [(first[0], second[0])]
    known = {_key(run): run for run in first}
    return [(known[_key(run)], run) for run in second if _key(run) in known]


def _key(run: Run) -> tuple[str, ...]:
    return tuple(str(run.get(part) or "") for part in ("model", "variant", "target", "precision"))


def _pair(a: Run, b: Run, tolerance: float, unlike: bool) -> Comparison:
    name = " ".join(part for part in _key(b) if part)
    against = differences(a, b)
    if against and not unlike:
        raise InputError(f"{name} does not compare ({'; '.join(against)}): measure again, or say --unlike")
    one, other = (np.array(run["frames_us"], np.float64) for run in (a, b))
    if min(len(one), len(other)) < LEAST:
        raise InputError(
            f"{name} has {min(len(one), len(other))} frames, at least {LEAST} are needed: measure for longer"
        )
    found = ratio(one, other)
    medians = float(np.median(one)) / 1000, float(np.median(other)) / 1000
    interval = found.ratio, found.low, found.high
    return Comparison(name, *medians, *interval, found.verdict(tolerance), _versions(a, b), tuple(against))


def _medians(frames: Frames, rng: np.random.Generator) -> Frames:
    """Medians of ``DRAWS`` runs put together from blocks of this one."""
    length = len(frames) // BLOCKS
    starts = rng.integers(0, len(frames) - length + 1, (DRAWS, BLOCKS))
    return np.array([np.median(frames[(row[:, None] + np.arange(length)).ravel()]) for row in starts])


def _versions(a: Run, b: Run) -> tuple[str, ...]:
    one, other = ({k: v["installed"] for k, v in run["validity"].get("toolchain", {}).items()} for run in (a, b))
    return tuple(f"{k} {one.get(k)} → {other.get(k)}" for k in sorted(one | other) if one.get(k) != other.get(k))


def _at(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
