"""What calibration frames show of a float graph: the ranges of its channels, and, once these are balanced, a histogram
of each tensor. From build to build it is kept in the store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.export.quantize import facts
from edgeseg.export.quantize._session import Observed
from edgeseg.export.quantize.equalize import Ranges, channel_ranges, equalize
from edgeseg.export.quantize.histogram import Histogram
from edgeseg.export.quantize.plan import Plan
from edgeseg.export.quantize.store import Arrays, Damaged, Facts, Store
from edgeseg.progress import Progress

Frame = NDArray[np.uint8]
Histograms = dict[str, Histogram]
Weigh = Callable[[ir.Model, Histograms, Iterable[Frame], Callable[[], None]], None]


@dataclass(frozen=True)
class Observation:
    """``model``: the graph with balanced channels. ``histograms``: of its tensors. ``facts``: what they follow from."""

    model: ir.Model
    histograms: Histograms
    facts: Facts


def observe(
    model: ir.Model,
    few: Collection[Frame],
    frames: Collection[Frame],
    sizes: Facts,
    store: Store | None,
    bars: Progress,
    weigh: Weigh | None = None,
) -> Observation:
    """``few`` of the frames tell the channels' ranges and, by ``weigh``, the weights, ``frames`` the histograms; both
    are gone through more than once and each frame (uint8 H×W×3) may be made anew. ``sizes``: the frames' and the
    network's, in words."""
    known = facts.of_model(model) | dict(sizes) | facts.of_code()
    with bars.task("read calibration frames", len(few) + len(frames)) as done:
        seen: dict[str, str | list[str]] = {
            **known, "balance": list(_digests(few, done)), "frames": list(_digests(frames, done))
        }  # fmt: skip
    if store is not None and (kept := _recall(store, seen, bars)) is not None:
        channels, found = kept
        return Observation(equalize(model, channels), found, seen)
    used: dict[str, list[str]] = {"balance": [], "frames": []}
    with bars.task("balance channels", len(few)) as done:
        channels = channel_ranges(model, _noting(few, used["balance"]), done)
    balanced = equalize(model, channels)
    with bars.task("calibrate", len(frames)) as done:
        found = histograms(balanced, _noting(frames, used["frames"]), done)
    if weigh is not None:
        with bars.task("weigh errors", len(few)) as done:
            weigh(balanced, found, few, done)
    seen |= used  # the images may have changed meanwhile
    if store is not None:
        try:
            store.keep(seen, _packed(channels, found))
        except OSError as error:
            bars.note(f"calibration not kept for the next build: {error.strerror or error}")
    return Observation(balanced, found, seen)


def histograms(model: ir.Model, frames: Iterable[Frame], done: Callable[[], None] = lambda: None) -> Histograms:
    """Of every tensor that int8 needs a range of, by name.

    Raises:
        InputError: no frames, a tensor that is not finite, or an operator without a quantization rule.
    """
    plan = Plan(model)
    found = {str(v.name): Histogram() for v in plan.points + plan.inner}
    observed, count = Observed(model, found), 0
    for frame in frames:
        for name, values in observed.run(frame):
            try:
                found[name].add(values)
            except ValueError as error:
                raise InputError(
                    f"tensor '{name}' is not finite on calibration frame {count}: int8 has no range for it"
                ) from error
        count += 1
        done()
    if not count:
        raise InputError("int8 calibration got no images: check --data and --calib-images")
    return found


def _recall(store: Store, wanted: Facts, bars: Progress) -> tuple[Ranges, Histograms] | None:
    try:
        arrays = store.recall(wanted)
    except Damaged:
        bars.note("calibration taken again: the kept one was damaged")
        return None
    if arrays is not None:
        bars.note("calibration: the kept one, nothing changed since")
        return _unpacked(arrays)
    if why := facts.nearest(wanted, store.others()):
        bars.note(f"calibration taken again: {why}")
    return None


def _digests(frames: Iterable[Frame], done: Callable[[], None]) -> Iterable[str]:
    for frame in frames:
        yield facts.of_frame(frame)
        done()


def _noting(frames: Iterable[Frame], into: list[str]) -> Iterable[Frame]:
    for frame in frames:
        into.append(facts.of_frame(frame))
        yield frame


def _packed(channels: Ranges, found: Histograms) -> Arrays:
    arrays: dict[str, Any] = {f"channels {name}": values for name, values in channels.items()}
    for name, histogram in found.items():
        arrays[f"counts {name}"], arrays[f"weights {name}"] = histogram.counts, histogram.weights
        arrays[f"ends {name}"] = np.array([histogram.top, histogram.peak])
    return arrays


def _unpacked(arrays: Arrays) -> tuple[Ranges, Histograms]:
    channels, found = {}, {}
    for key, values in arrays.items():
        kind, _, name = key.partition(" ")
        if kind == "channels":
            channels[name] = values
        elif kind == "counts":
            found[name] = Histogram()
            found[name].counts = values.astype(np.int64, copy=False)
            found[name].weights = arrays[f"weights {name}"].astype(np.float64, copy=False)
            found[name].top, found[name].peak = arrays[f"ends {name}"].tolist()
    return channels, found  # type: ignore[return-value]
