"""Every network in a form small enough for a test: one variant of each, at small frames, and at reduced width where
it has more than 50 million parameters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from edgeseg import models
from edgeseg.models import _random
from edgeseg.spec import Preprocess, Variant

LARGE, WIDTH = 50e6, 0.125
LEAST = (64, 96)


@dataclass(frozen=True)
class Case:
    """A network under test."""

    name: str
    variant: Variant

    def __str__(self) -> str:
        return f"{self.name}-{self.variant.name}"

    @property
    def trained(self) -> bool:
        """Whether the package carries weights of it."""
        first = models.spec(self.name).variants[0]
        return self.variant == first and self.name in models.packaged()

    @property
    def size(self) -> tuple[int, int]:
        stride = models.spec(self.name).stride
        height, width = (-(-least // stride) * stride for least in LEAST)
        return height, width

    @property
    def preprocess(self) -> Preprocess:
        v = self.variant
        return Preprocess(self.size, v.mean, v.std, v.order)

    def network(self, classes: int) -> nn.Module:
        """With the package's weights, else with seeded ones that have sane statistics."""
        if self.trained:
            return models.load(self.name).module
        return _random.settle(self.fresh(classes), self.variant, models.spec(self.name).stride)

    def fresh(self, classes: int) -> nn.Module:
        torch.manual_seed(1)
        build = models.file(self.name).build
        return build(classes, self.variant.name, **({"width": WIDTH} if self.variant.parameters > LARGE else {}))


def cases(task: str = "semantic") -> list[Case]:
    """One of each network of the ``task``: its first variant."""
    specs = [models.spec(name) for name in models.names()]
    return [Case(s.name, s.variants[0]) for s in specs if s.task == task]
