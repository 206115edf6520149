"""What tests of several folders share."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from datagen.blender.executable import blender_command, chosen_blender


@pytest.fixture(scope="session")
def run_in_blender(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Return a function that runs a script in the Blender under test; ``sys.argv`` ends with words.

    That is the one that DATAGEN_BLENDER names, else this Python's bpy.
    """
    folder = tmp_path_factory.mktemp("scripts")

    def run(script: str, *words: str | Path) -> None:
        path = folder / f"{hash(script):x}.py"
        path.write_text(script)
        command = [*blender_command(chosen_blender(None), path), *map(str, words)]
        subprocess.run(command, check=True, capture_output=True)

    return run
