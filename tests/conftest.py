"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples on every run, however loaded the machine.
settings.register_profile(
    "edgeseg", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("edgeseg")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Calibrations are kept apart from the user's."""
    os.environ["EDGESEG_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def own_captures() -> Iterator[None]:
    """A build in a test's own process captures a network that was captured before no second time."""
    from edgeseg.export.capture import capture
    from tests.captures import remembered

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeseg.export._build.capture", remembered(capture))
        yield


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real images, labels and checkpoints; tests that need it skip without it, and say so."""
    folder = os.environ.get("EDGESEG_DATA")
    if not folder:
        pytest.skip("EDGESEG_DATA is not set: real images, labels and checkpoints are not at hand")
    return Path(folder)
