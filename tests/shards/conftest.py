from pathlib import Path

import pytest

from tests.shards.tiny import make_workspace


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A sound workspace; only to be read."""
    return make_workspace(tmp_path_factory.mktemp("tiny"))
