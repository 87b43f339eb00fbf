"""Which layers are cheaper in float than what converting around them costs."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from torch import Tensor, nn

from edgeseg.export.quantize.islands import CONVERSION, SAVED, joined
from edgeseg.export.quantize.plan import Plan
from tests.test_quantize import captured

WIDE = 24  # channels of the map between


class Bottleneck(nn.Module):
    """Widened, filtered by channel, activated by a SiLU, narrowed: the map in the middle is much the largest."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.wide = nn.Conv2d(3, 2, 3, 1, 1), nn.Conv2d(2, WIDE, 1)
        self.each, self.narrow = nn.Conv2d(WIDE, WIDE, 3, 1, 1, groups=WIDE), nn.Conv2d(WIDE, 2, 1)
        self.much = nn.Conv2d(2, 4, 15, 1, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.each(self.wide(self.first(x)))
        out: Tensor = self.much(self.narrow(x * x.sigmoid()))
        return out


@pytest.fixture(scope="module")
def graph() -> ir.Model:
    return captured(Bottleneck)


def test_nothing_joins_where_nothing_is_in_float(graph: ir.Model) -> None:
    assert joined(graph, ()) == []


def test_what_writes_and_reads_a_large_map_joins_and_what_computes_much_does_not(graph: ir.Model) -> None:
    first, wide, each, silu, narrow, much = Plan(graph).layers()
    assert sorted(joined(graph, [each, silu])) == sorted([first, wide, narrow])
    assert joined(graph, [much]) == []


def test_a_layer_joins_where_fewer_crossings_are_worth_its_work(graph: ir.Model) -> None:
    names = list(Plan(graph).layers())
    for keep, name, fewer, work in (
        (names[:5], names[5], 2 + 4, 4 * 2 * 15 * 15),  # the graph gives its output in float
        ([names[3]], names[4], WIDE - 2, 2 * WIDE),
        ([names[3]], names[2], 0, 9 * WIDE),
    ):
        assert (name in joined(graph, keep)) == (fewer * CONVERSION > work * SAVED)


def test_what_joined_leaves_nothing_to_join(graph: ir.Model) -> None:
    keep = list(Plan(graph).layers())[2:4]
    assert joined(graph, [*keep, *joined(graph, keep)]) == []
