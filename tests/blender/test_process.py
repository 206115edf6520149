"""Protects the Blender process: errors, crashes, timeouts, and the death of its parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trimesh

from datagen.blender import BlenderCrashed, BlenderJobFailed, BlenderProcess, BlenderTimedOut
from datagen.blender.libraries import DEBIAN_PACKAGES, apt_command, missing_libraries, start_advice
from datagen.blender.scratch import scratch_folder
from datagen.errors import BlenderError, RowError

pytestmark = pytest.mark.blender


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended and was not reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> bool:
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition() and time.monotonic() < deadline:
        pause.wait(0.02)
    return condition()


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


def test_kill_during_a_job_fails_that_job_and_the_next_call_works(tmp_path):
    with BlenderProcess(tmp_path / "blender.log", threads=1) as blender:
        pid = blender.hello["pid"]
        os.kill(pid, signal.SIGSTOP)  # it cannot answer before it is killed
        killer = threading.Timer(0.2, os.kill, (pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(BlenderCrashed, match="SIGKILL") as crash:
            blender.call("hello", timeout_s=60)
        killer.join()

        assert isinstance(crash.value, RowError)
        assert blender.call("hello", timeout_s=60)["pid"] != pid
        assert blender.restarts == 1


def test_kill_between_jobs_costs_no_job(tmp_path):
    with BlenderProcess(tmp_path / "blender.log", threads=1) as blender:
        pid = blender.hello["pid"]
        os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: blender.pid is None)

        assert blender.call("hello", timeout_s=60)["pid"] != pid
        assert blender.restarts == 1


def test_crash_message_ends_with_the_python_lines_that_led_to_it(tmp_path):
    with BlenderProcess(tmp_path / "blender.log", threads=1) as blender:
        killer = threading.Timer(0.2, os.kill, (blender.hello["pid"], signal.SIGSEGV))
        os.kill(blender.hello["pid"], signal.SIGSTOP)
        killer.start()
        threading.Timer(0.3, os.kill, (blender.hello["pid"], signal.SIGCONT)).start()
        with pytest.raises(BlenderCrashed, match=r"(?s)SIGSEGV.*worker\.py.*in main"):
            blender.call("hello", timeout_s=60)


def test_job_that_times_out_is_killed_and_the_next_call_works(tmp_path):
    with BlenderProcess(tmp_path / "blender.log", threads=1) as blender:
        pid = blender.hello["pid"]
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(BlenderTimedOut, match=r"0\.2 s"):
            blender.call("hello", timeout_s=0.2)

        assert not is_alive(pid)
        assert blender.call("hello", timeout_s=60)["pid"] != pid


def test_large_log_is_emptied(tmp_path):
    log_path = tmp_path / "blender.log"
    with BlenderProcess(log_path, threads=1) as blender:
        assert blender.hello
        with log_path.open("ab") as log:
            log.truncate(100 << 20)
        blender.call("hello", timeout_s=60)

        assert log_path.stat().st_size < 1 << 20


def assert_ends(pid: int) -> None:
    """Give a process a few seconds to end by itself, and leave none behind if it does not."""
    ended = wait_until(lambda: not is_alive(pid), timeout_s=10.0)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    assert ended


PARENT = """
import sys
from pathlib import Path
import numpy as np
from datagen.blender import BlenderProcess, PreparedPlacement, RenderJob, RenderView, render_views
blender = BlenderProcess(Path(sys.argv[1]), threads=1)
print(blender.hello["pid"], blender.scratch, flush=True)
if len(sys.argv) > 2:
    intrinsics = np.array([[300.0, 0, 128], [0, 300.0, 128], [0, 0, 1]])
    view = RenderView(world_to_camera=np.eye(4), intrinsics=intrinsics, seed=0)
    placement = PreparedPlacement(prepared_path=Path(sys.argv[2]), asset_to_world=np.eye(4))
    job = RenderJob(placements=[placement], views=[view], width=256, height=256, samples=8192,
                    denoise=False)
    render_views(blender, job)
else:
    sys.stdin.read()
"""


def start_parent(*arguments: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_parent_killed_ends_blender(tmp_path):
    with start_parent(tmp_path / "blender.log") as parent:
        pid, scratch = parent.stdout.readline().split()
        assert is_alive(int(pid))
        parent.kill()

    assert_ends(int(pid))
    with scratch_folder():  # the next one's start
        assert not Path(scratch).exists()


def test_parent_killed_ends_blender_in_the_middle_of_a_render(tmp_path, write_prepared):
    ball = write_prepared("big-ball", trimesh.creation.icosphere(3, 5.0))  # around the camera
    with start_parent(tmp_path / "blender.log", ball) as parent:
        pid = int(parent.stdout.readline().split()[0])
        before_s = cpu_seconds(pid)
        is_at_work = wait_until(lambda: cpu_seconds(pid) > before_s + 3)  # of minutes
        parent.kill()
        assert is_at_work

    assert_ends(pid)


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
