"""Which layers stay in float so that int8 keeps within a budget of the task's own metric on real labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeseg.export.quantize.layer import Layer

RETURNS = 6  # attempts to give layers back to int8 once within the budget


def within(
    budget: float, sensitivity: Callable[[], Sequence[Layer]], drop: Callable[[Sequence[str]], float]
) -> tuple[list[str], float]:
    """The layers to keep in float, in the graph's order, and what is lost then. ``drop(keep)`` measures that in points;
    ``sensitivity()`` gives the layers to choose from, and is asked only where some must be kept.

    Layers are kept by the noise that each brings against what it costs: its share of the work, and being one of them.
    How many it takes is found by doubling and halving, each time on the labels; then those that cost most are given
    back as far as the labels allow. More layers in float are not always less loss, so what is returned was measured and
    a smaller set within the budget may exist. It is beyond the budget only where that is so with all layers in float.
    """
    lost = drop(())
    if lost <= budget:
        return [], lost
    layers = sensitivity()
    ranked = sorted(layers, key=lambda layer: layer.noise / (layer.work + 1 / len(layers)), reverse=True)
    measured = {frozenset[str](): lost}

    def loss(keep: Sequence[Layer]) -> float:
        key = frozenset(layer.name for layer in keep)
        if key not in measured:
            measured[key] = drop([layer.name for layer in layers if layer.name in key])
        return measured[key]

    keep = ranked[: _count(ranked, lambda count: loss(ranked[:count]) <= budget)]
    keep = _given_back(keep, lambda rest: loss(rest) <= budget)
    return [layer.name for layer in layers if layer in keep], loss(keep)


def _count(ranked: Sequence[Layer], enough: Callable[[int], bool]) -> int:
    """How many of the first it takes: the boundary between a number that does not do and one that does. None do not."""
    too_few, found = 0, 1
    while found < len(ranked) and not enough(found):
        too_few, found = found, min(2 * found, len(ranked))
    while found - too_few > 1:
        middle = (too_few + found) // 2
        too_few, found = (too_few, middle) if enough(middle) else (middle, found)
    return found


def _given_back(keep: list[Layer], enough: Callable[[list[Layer]], bool]) -> list[Layer]:
    """Without those of the most work: half of them at once, then fewer, as long as it does."""
    left, count = sorted(keep, key=lambda layer: -layer.work), len(keep) // 2
    for _ in range(RETURNS):
        if not left:
            break
        some = left[: max(count, 1)]
        rest = [layer for layer in keep if layer not in some]
        if enough(rest):
            keep, left = rest, left[len(some) :]
        elif len(some) > 1:
            count //= 2
        else:
            left = left[1:]
    return keep
