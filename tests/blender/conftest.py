"""A Blender for the tests of this folder, and prepared objects to render with it."""

from collections.abc import Iterator

import pytest

from datagen.blender import BlenderProcess


@pytest.fixture(scope="module")
def blender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlenderProcess]:
    """Yield one Blender, one thread, for the tests of a file: an idle one may keep a core busy."""
    log_path = tmp_path_factory.mktemp("blender") / "blender.log"
    with BlenderProcess(log_path, threads=1) as process:
        yield process
