"""Protects the choice of Blender: which one is started, which is refused, and its version."""

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import trimesh

from datagen.blender import (
    BlenderProcess,
    PreparedPlacement,
    RenderJob,
    RenderView,
    render_views,
)
from datagen.blender.executable import (
    BLENDER_VARIABLE,
    blender_command,
    blender_version,
    chosen_blender,
    is_blender,
    named_blender,
)
from datagen.blender.process import scripts_folder
from datagen.core.cameras import intrinsics_from_fov, look_at
from datagen.errors import BlenderError

BLENDER = r"""#!{python}
# As Blender does: the whole command line is sys.argv, and the script runs as __main__.
import runpy, sys
if sys.argv[1:] == ["--version"]:
    print("Blender 4.5.15 LTS\n\tbuild date: 2025-01-01")
    sys.exit()
assert sys.argv[1] == "--background", sys.argv
script = sys.argv[sys.argv.index("--python") + 1]
runpy.run_path(script, run_name="__main__")
"""

OLD_BLENDER = r"""#!{python}
import runpy, sys
from unittest.mock import MagicMock
if sys.argv[1:] == ["--version"]:
    print("Blender 3.6.5")
    sys.exit()
sys.modules["bpy"] = MagicMock()
sys.modules["bpy"].app.version, sys.modules["bpy"].app.version_string = (3, 6, 5), "3.6.5"
runpy.run_path(sys.argv[sys.argv.index("--python") + 1], run_name="__main__")
"""


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str, str], Path]:
    """Return a function that writes an executable file."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / "programs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace("{python}", sys.executable))
        path.chmod(0o755)
        return path

    return write


@pytest.mark.blender
def test_blender_executable_renders_what_a_python_with_bpy_renders(
    program, write_prepared, blender, tmp_path
):
    """A stand-in that starts scripts in the way Blender's command line does."""
    stand_in = program("blender", BLENDER.replace("{python}", python_of(chosen_blender(None))))
    ball = write_prepared("stand-in", trimesh.creation.icosphere(2, 0.5))
    camera = look_at(np.array([1.5, -3, 2]), np.zeros(3))
    view = RenderView(world_to_camera=camera, intrinsics=intrinsics_from_fov(0.7, 32, 32), seed=0)
    job = RenderJob(
        placements=[PreparedPlacement(prepared_path=ball, asset_to_world=np.eye(4))],
        views=[view],
        width=32,
        height=32,
    )

    with BlenderProcess(tmp_path / "blender.log", blender=str(stand_in), threads=1) as process:
        images = render_views(process, job)

    assert images == render_views(blender, job)


def python_of(blender: str) -> str:
    if is_blender(blender):
        pytest.skip("the Blender under test is an executable itself")
    return blender


@pytest.mark.blender
def test_unsupported_blender_is_refused_with_the_supported_versions(program, tmp_path):
    old = program("blender", OLD_BLENDER)

    with (
        pytest.raises(
            BlenderError, match=r"programs/blender: Blender 3\.6\.5 .* 4\.2 LTS, 4\.5 LTS, 5\.0"
        ),
        BlenderProcess(tmp_path / "blender.log", blender=str(old)) as process,
    ):
        process.call("hello", timeout_s=60)


@pytest.mark.blender
def test_file_of_a_newer_blender_is_refused_with_both_versions(write_prepared, run_in_blender):
    ball = write_prepared("newer", trimesh.creation.icosphere(1, 0.5))
    script = f"import sys\nsys.path.insert(0, {str(scripts_folder())!r})\n" + NEWER

    run_in_blender(script, ball)


NEWER = """
import bpy, compat
compat.append_mesh(sys.argv[-1], "asset")
assert not bpy.data.libraries  # nothing is kept of a file that was read
read_version = compat._forget_library
compat._forget_library = lambda path: (read_version(path), (9, 1, 0))[1]
try:
    compat.append_mesh(sys.argv[-1], "asset")
except compat.WrongBlender as error:
    assert "newer Blender (9.1)" in str(error) and bpy.app.version_string in str(error), error
else:
    raise AssertionError("a file of Blender 9.1 was read")
"""


def test_program_that_is_neither_blender_nor_python_is_refused_by_name(program):
    other = program("other", "#!/bin/sh\necho Ble 1.0\n")

    with pytest.raises(BlenderError, match=r"(?s)programs/other --version.*Ble 1\.0.*--blender"):
        is_blender(str(other))


def test_commands_differ_only_in_how_the_script_is_named(program):
    blender = program("my-blender", "#!/bin/sh\necho a warning >&2\necho Blender 5.0.1\n")
    script = Path("worker.py")

    command = blender_command(str(blender), script)

    assert blender_version(str(blender)) == "5.0.1"
    assert command[0] == str(blender)
    assert command[-3:] == ["--python", "worker.py", "--"]
    assert "--background" in command and "--factory-startup" in command
    assert blender_command(sys.executable, script) == [sys.executable, "worker.py", "--"]


def test_version_of_a_python_is_that_of_its_bpy_and_of_a_missing_blender_unknown():
    assert blender_version(sys.executable) == metadata.version("bpy")
    assert blender_version("nowhere/blender") is None


def test_flag_overrides_the_environment_and_that_overrides_this_python(monkeypatch):
    monkeypatch.delenv(BLENDER_VARIABLE, raising=False)
    assert chosen_blender(None) == sys.executable
    monkeypatch.setenv(BLENDER_VARIABLE, "/opt/blender/blender")
    assert chosen_blender(None) == "/opt/blender/blender"
    assert chosen_blender("blender-4.5") == "blender-4.5"


def test_relative_path_becomes_absolute_and_a_bare_name_is_left_to_the_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert named_blender("bin/blender") == str(tmp_path / "bin/blender")
    assert named_blender("blender") == "blender"
    assert named_blender(None) is None
