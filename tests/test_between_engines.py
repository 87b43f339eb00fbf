"""Engines of one network beside each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeseg.benchmarks.between_engines import between
from edgeseg.datasets import open_dataset
from edgeseg.errors import InputError
from edgeseg.export import BuildRequest, _targets, build
from edgeseg.metrics import agreement
from edgeseg.runtimes import open_artifact

DATA = "streets:2@64x96:val"


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    names = tuple(name for name in _targets.names() if not _targets.why_not(name))[:2]
    if len(names) < 2:
        pytest.skip("needs two targets whose engines run here")
    out = tmp_path_factory.mktemp("between")
    request = BuildRequest("enet", size=(64, 96), targets=names, precisions=("fp32", "int8"), data=DATA, out=out)
    return sorted(build(request))


def test_the_share_is_that_of_equal_pixels(artifacts: list[Path]) -> None:
    found = between(artifacts, DATA)
    assert len(found) == 6
    data, (one, other) = open_dataset(DATA), artifacts[:2]
    with open_artifact(one) as a, open_artifact(other) as b:
        each = [agreement(a.segment(data[i].frame), b.segment(data[i].frame)) for i in range(2)]
    assert found[one.name, other.name] == pytest.approx(sum(each) / 2)
    floats = [path.name for path in artifacts if path.name.endswith("fp32")]
    assert found[floats[0], floats[1]] > 0.999
    assert min(found.values()) < 1


def test_one_artifact_is_no_pair(artifacts: list[Path]) -> None:
    with pytest.raises(InputError, match="two or more artifacts"):
        between(artifacts[:1], DATA)
