"""Protects the Blender process: its start and end, failed jobs, and missing libraries."""

import subprocess
import sys
from pathlib import Path

import pytest

from datagen.blender import BlenderJobFailed, BlenderProcess
from datagen.blender.libraries import DEBIAN_PACKAGES, apt_command, missing_libraries, start_advice
from datagen.errors import BlenderError
from tests.processes import is_alive

pytestmark = pytest.mark.blender


def test_hello_returns_versions_and_leaving_the_context_ends_blender(tmp_path):
    with BlenderProcess(tmp_path / "blender.log", threads=1) as blender:
        hello = blender.call("hello", timeout_s=60)
        pid = blender.pid
        assert hello["pid"] == pid
        assert hello["blender"][0].isdigit()

    assert not is_alive(pid)
    assert blender.restarts == 0


def test_error_in_the_body_leaves_no_orphan(tmp_path):
    with (
        pytest.raises(ZeroDivisionError),
        BlenderProcess(tmp_path / "blender.log", threads=1) as blender,
    ):
        pid = blender.hello["pid"]
        1 / 0  # noqa: B018

    assert not is_alive(pid)


def test_job_that_raises_is_reported_with_traceback_and_blender_keeps_running(blender):
    pid = blender.hello["pid"]

    with pytest.raises(BlenderJobFailed, match=r"(?s)op 'dance' is unknown.*Traceback"):
        blender.call("dance", timeout_s=60)

    assert blender.call("hello", timeout_s=60)["pid"] == pid


def test_large_log_is_emptied(tmp_path):
    log_path = tmp_path / "blender.log"
    with BlenderProcess(log_path, threads=1) as blender:
        assert blender.hello
        with log_path.open("ab") as log:
            log.truncate(100 << 20)
        blender.call("hello", timeout_s=60)

        assert log_path.stat().st_size < 1 << 20


def test_python_without_bpy_is_a_blender_error_with_advice(tmp_path):
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # -S: no installed packages
    bare.chmod(0o755)

    with (
        pytest.raises(BlenderError, match=r"(?s)No module named 'bpy'.*make install"),
        BlenderProcess(tmp_path / "blender.log", blender=str(bare)) as blender,
    ):
        blender.call("hello", timeout_s=60)


def test_missing_python_is_a_blender_error(tmp_path):
    with (
        pytest.raises(BlenderError, match="nowhere/python"),
        BlenderProcess(tmp_path / "blender.log", blender="nowhere/python") as blender,
    ):
        blender.call("hello", timeout_s=60)


def test_missing_system_library_is_named_with_the_command_that_installs_it():
    words = "ImportError: libXrender.so.1: cannot open shared object file: No such file"

    advice = start_advice(words)

    assert "libXrender.so.1" in advice
    assert "apt-get install -y libxrender1" in advice


def test_missing_libraries_of_a_file_are_found(tmp_path):
    """A library linked to another one that is then deleted."""
    (tmp_path / "gone.c").write_text("int gone(void) { return 0; }")
    (tmp_path / "user.c").write_text("int gone(void); int user(void) { return gone(); }")
    try:
        compile_shared(tmp_path, "gone.c", "libgone.so")
        compile_shared(tmp_path, "user.c", "libuser.so", "-L.", "-lgone")
    except FileNotFoundError:
        pytest.skip("no C compiler")
    (tmp_path / "libgone.so").unlink()

    assert missing_libraries(tmp_path / "libuser.so") == ["libgone.so"]


def compile_shared(folder: Path, source: str, target: str, *flags: str) -> None:
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", target, *flags], cwd=folder, check=True)


def test_apt_command_lists_each_package_once_in_order():
    assert apt_command(["libSM.so.6", "libGL.so.1", "libSM.so.6"]) == (
        "sudo apt-get install -y libgl1 libsm6"
    )
    assert "libice6" in apt_command(list(DEBIAN_PACKAGES))
