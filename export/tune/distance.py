"""How far a network's answer is from the one it should give, whatever the labels are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def labels(exact: Sequence[Tensor], rounded: Sequence[Tensor]) -> Tensor:
    """Of logits N×C×H×W each: the mean divergence of the classes' probabilities (Kullback and Leibler's), in nats."""
    each = [_divergence(a, b) for a, b in zip(exact, rounded, strict=True)]
    return torch.stack(each).mean()


def boxes(exact: Sequence[Tensor], rounded: Sequence[Tensor]) -> Tensor:
    """Of class logits N×A×C and box deltas N×A×4: the divergence of each class's probability and the squared error of
    the deltas, by anchor; an anchor's deltas count as much as an object is likely there."""
    (exact_classes, exact_deltas), (classes, deltas) = exact, rounded
    probability = exact_classes.sigmoid()
    least = F.binary_cross_entropy_with_logits(exact_classes, probability, reduction="sum")
    divergence = F.binary_cross_entropy_with_logits(classes, probability, reduction="sum") - least
    likely = probability.amax(2)
    error = (likely[..., None] * (deltas - exact_deltas).square()).sum()
    return (divergence + error) / likely.sum()


def _divergence(exact: Tensor, rounded: Tensor) -> Tensor:
    each = F.kl_div(rounded.log_softmax(1), exact.log_softmax(1), log_target=True, reduction="none")
    return each.sum(1).mean()
