"""A workspace that the tests of the report read."""

from pathlib import Path

import pytest

from tests.report.workspace import write_workspace


@pytest.fixture(scope="session")
def whole_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with every stage finished; tests must not change it."""
    return write_workspace(tmp_path_factory.mktemp("report") / "dataset")
