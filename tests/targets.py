"""Which targets a test can run engines of. A target whose engines this machine cannot run, or whose package it does
not have, is skipped with that reason; what is asked of it without running stands in tests/tensorrt_contract.py."""

from __future__ import annotations

from typing import Any

import pytest

from edgeseg.export import _targets
from edgeseg.spec import PRECISIONS


def _marks(name: str) -> list[pytest.MarkDecorator]:
    reason = _targets.why_not(name)
    return [pytest.mark.skip(reason=reason)] if reason else []


_NAMES = {name: _marks(name) for name in _targets.names()}
RUNNABLE = [pytest.param(name, marks=marks) for name, marks in _NAMES.items()]
CELLS: list[Any] = [pytest.param(name, p, marks=marks) for name, marks in _NAMES.items() for p in PRECISIONS]
CELL_PAIRS: list[Any] = [pytest.param((name, p), marks=marks) for name, marks in _NAMES.items() for p in PRECISIONS]
