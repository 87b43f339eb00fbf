"""A network with the weights that training starts from."""

from __future__ import annotations

import torch
from torch import nn

from edgeseg.models import _variants, file
from edgeseg.spec import Variant


def fresh(name: str, classes: int, variant: str | None = None, seed: int = 0) -> tuple[nn.Module, Variant]:
    """The network ``name`` with ``classes`` outputs, its weights drawn from ``seed``, and its variant (the
    paper's by default).

    Raises:
        InputError: unknown model or variant.
    """
    module_file = file(name)
    chosen = _variants(module_file.SPEC, variant)[0]
    torch.manual_seed(seed)
    return module_file.build(classes, chosen.name), chosen
