"""The matrix on a cluster of two nodes, each a board of its own name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeseg.benchmarks import matrix_ray
from edgeseg.errors import InputError
from tests.test_matrix import request

ray = pytest.importorskip("ray", reason="no Ray: the matrix is not tried on a cluster")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    from ray.cluster_utils import Cluster

    found: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "resources": {"left": 1}})
    found.add_node(num_cpus=1, resources={"right": 1})
    yield found.address
    found.shutdown()


@pytest.mark.slow
def test_every_board_measures_and_what_is_there_is_kept(cluster: str, tmp_path: Path) -> None:
    wanted = request(tmp_path, precisions=("fp32", "int8"))
    runs = matrix_ray.run_on_boards(wanted, cluster)
    assert [(run["board"], run["precision"]) for run in runs] == [
        ("left", "fp32"), ("left", "int8"), ("right", "fp32"), ("right", "int8"),
    ]  # fmt: skip
    assert all("error" not in run and run["latency_ms"]["p50"] > 0 for run in runs), runs
    assert runs[0]["parity"]["passed"] and [r["parity"] for r in runs[:2]] == [r["parity"] for r in runs[2:]]
    cells = tmp_path / "cells"
    (cells / "right-enet-overlap-onnxruntime-int8.json").unlink()
    kept = {path.name: path.stat().st_mtime_ns for path in cells.iterdir()}
    again = matrix_ray.run_on_boards(wanted, cluster, ("right",))
    assert [run["precision"] for run in again] == ["fp32", "int8"] and again[1]["parity"] == runs[3]["parity"]
    assert {n: (cells / n).stat().st_mtime_ns for n in kept} == kept and len([*cells.iterdir()]) == 4
    with pytest.raises(InputError, match="no board orin in the cluster: it has left, right"):
        matrix_ray.run_on_boards(wanted, cluster, ("orin",))


def test_boards_are_the_resources_that_are_not_rays_own() -> None:
    resources = {"CPU": 4.0, "GPU": 1.0, "memory": 1.0, "object_store_memory": 1.0, "node:10.0.0.1": 1.0,
                 "node:__internal_head__": 1.0, "accelerator_type:H100": 1.0, "thor": 1.0, "nano": 1.0}  # fmt: skip
    assert matrix_ray._boards(resources, ()) == ["nano", "thor"]
    with pytest.raises(InputError, match="no node of the cluster names its board"):
        matrix_ray._boards({"CPU": 4.0}, ())
