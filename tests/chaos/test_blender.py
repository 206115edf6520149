"""Blender is killed, stopped or orphaned: at most one job fails, and no process is left."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trimesh

from datagen.blender import BlenderCrashed, BlenderProcess, BlenderTimedOut
from datagen.blender.scratch import scratch_folder
from datagen.errors import BlenderError, RowError
from tests.processes import is_alive, wait_until

pytestmark = pytest.mark.blender


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


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


def test_job_beyond_its_time_is_killed_and_the_next_call_works(tmp_path):
    with BlenderProcess(tmp_path / "blender.log", threads=1) as blender:
        pid = blender.hello["pid"]
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(BlenderTimedOut, match=r"0\.2 s"):
            blender.call("hello", timeout_s=0.2)

        assert not is_alive(pid)
        assert blender.call("hello", timeout_s=60)["pid"] != pid


def assert_ends(pid: int) -> None:
    """Check that a process ends by itself within ten seconds; kill it otherwise."""
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


@pytest.mark.parametrize(("kills", "starts"), [(2, True), (3, False)])
def test_kill_while_it_starts_is_no_reason_to_give_up_at_once(tmp_path, monkeypatch, kills, starts):
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "worker.py").write_text(
        "import json, os, pathlib, sys\n"
        f"marks = pathlib.Path({str(tmp_path)!r})\n"
        "count = len(list(marks.glob('start*')))\n"
        "(marks / f'start{count}').touch()\n"
        f"if count < {kills}:\n"
        "    os.kill(os.getpid(), 9)\n"
        "for line in sys.stdin:\n"
        "    answer = {'device': 'CPU', 'devices': [], 'blender': '4.5.0'}\n"
        "    os.write(int(sys.argv[-2]), json.dumps(answer).encode() + b'\\n')\n"
    )
    monkeypatch.setattr("datagen.blender.process.scripts_folder", lambda: scripts)
    with BlenderProcess(tmp_path / "blender.log", device="cpu") as blender:
        if starts:
            assert blender.hello["blender"] == "4.5.0"
        else:
            with pytest.raises(BlenderError, match="killed by SIGKILL during 'hello'"):
                blender.call("hello", timeout_s=60)
