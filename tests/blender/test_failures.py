"""Protects render failures: their kinds, the retries, the device and the restarts of Blender."""

import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from datagen.blender import BlenderProcess, BlenderTimedOut, retries
from datagen.blender import devices as device_choice
from datagen.blender.devices import check_device, choose_device
from datagen.blender.failures import RenderFailure, kind_of_exit, kind_of_message
from datagen.blender.retries import retry
from datagen.blender.scratch import clear_abandoned, scratch_folder, scratch_root
from datagen.errors import BlenderError, StageError
from datagen.executors.memory import resident_mb


@pytest.mark.parametrize(
    ("code", "words", "oom_killed", "kind"),
    [
        (-signal.SIGSEGV, "Fatal Python error: Segmentation fault", False, "segfault"),
        (-signal.SIGABRT, "terminate called after std::bad_alloc", False, "out_of_memory"),
        (-signal.SIGABRT, "assertion failed", False, "segfault"),
        (-signal.SIGKILL, "Sample 1/8", True, "out_of_memory"),
        (-signal.SIGKILL, "Sample 1/8", False, "killed"),
        (-signal.SIGTERM, "", False, "killed"),
        (1, "CUDA error: Illegal address in cuCtxSynchronize()", False, "gpu_error"),
        (1, "System is out of GPU memory", False, "gpu_error"),
        (3, "whatever", False, "crash"),
    ],
)
def test_end_of_a_process_is_classified(code, words, oom_killed, kind):
    assert kind_of_exit(code, words, oom_killed=oom_killed) == kind


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("MemoryError: ", "out_of_memory"),
        ("RuntimeError: Error: Out of memory", "out_of_memory"),
        ("RuntimeError: Error: Failed to create OptiX denoiser: error", "gpu_error"),
        ("ValueError: has meshes ['cuda_table']; expected 'asset'", None),
        ("KeyError: 'light'", None),
    ],
)
def test_error_message_is_classified(words, kind):
    assert kind_of_message(words) == kind


@dataclass
class FakeBlender:
    folders: list[Path]
    recycled: int = 0
    tried: list[bool] = field(default_factory=list)

    def recycle(self) -> None:
        self.recycled += 1

    def failing(self, *kinds: str):
        """Return a render that fails in these ways, one an attempt, and then succeeds."""
        queue = list(kinds)

        def render(less: bool) -> str:
            self.tried.append(less)
            if queue:
                kind = queue.pop(0)
                raise MemoryError("no room") if kind == "memory" else RenderFailure("broke", kind)
            return "rows"

        return render


@pytest.fixture
def fake(tmp_path) -> FakeBlender:
    return FakeBlender([tmp_path])


def test_single_failure_is_retried_as_asked_and_counted(fake):
    events = Counter()
    assert retry(fake.failing("segfault"), fake, events, "replay") == "rows"
    assert fake.tried == [False, False] and events == {"retry_segfault": 1}


def test_repeated_failure_is_retried_in_a_fresh_blender_and_then_with_less_work(fake):
    events = Counter()
    render = fake.failing("timeout", "timeout", "memory")
    assert retry(render, fake, events, "replay") == "rows"
    assert fake.tried == [False, False, False, True] and fake.recycled == 2
    assert events == {"retry_timeout": 2, "retry_out_of_memory": 1}


def test_scene_that_always_fails_reports_kind_attempts_and_replay_command(fake):
    command = "datagen render --only 7 --root data"
    with pytest.raises(RenderFailure, match=rf"(?s)^segfault: broke.*with less.*{command}"):
        retry(fake.failing(*["segfault"] * 4), fake, Counter(), command)


@pytest.mark.parametrize("kind", ["disagreement", "python_error"])
def test_fault_of_the_scene_is_not_retried_with_less_work(fake, kind):
    with pytest.raises(RenderFailure, match=r"Tried as asked, again, in a fresh Blender\. Replay"):
        retry(fake.failing(*[kind] * 9), fake, Counter(), "replay")
    assert fake.tried == [False] * 3


def test_error_other_than_a_render_failure_is_not_retried(fake):
    def render(less: bool) -> str:
        fake.tried.append(less)
        raise KeyError("layout")

    with pytest.raises(KeyError):
        retry(render, fake, Counter(), "replay")
    assert len(fake.tried) == 1


def test_failure_on_a_full_disk_ends_the_run(fake, monkeypatch):
    usage = SimpleNamespace(free=1 << 20)
    monkeypatch.setattr(retries.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StageError, match=r"only 1024 kB are free.*resumes"):
        retry(fake.failing("python_error"), fake, Counter(), "replay")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without a GPU, to which one can be added."""
    monkeypatch.setattr(device_choice, "DRIVER", tmp_path / "driver")
    monkeypatch.setattr(device_choice, "NODES", tmp_path / "dev")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "dev").mkdir()
    return tmp_path


def test_auto_chooses_a_gpu_that_exists_and_is_not_hidden(machine, monkeypatch):
    assert choose_device("auto") == ["CPU"]
    (machine / "dev/nvidia0").touch()
    assert choose_device("auto") == ["OPTIX", "CUDA"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_device("auto") == ["CPU"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert choose_device("auto") == ["OPTIX", "CUDA"]
    assert choose_device("cpu") == ["CPU"]


def test_device_that_cycles_lacks_is_refused(machine):
    on_cpu = {"device": "CPU", "devices": [("CPU", "CPU")]}
    for asked in ("cuda", "optix"):
        with pytest.raises(BlenderError, match=f"--device {asked}.*lists: CPU.*--device cpu"):
            check_device(asked, on_cpu)
    check_device("auto", on_cpu)
    (machine / "driver").mkdir()
    with pytest.raises(BlenderError, match="no OPTIX or CUDA device"):
        check_device("auto", on_cpu)
    check_device("auto", {"device": "OPTIX", "devices": [("OPTIX", "NVIDIA H100")]})


@pytest.mark.blender
def test_blender_without_the_asked_gpu_is_ended_with_a_clear_error(tmp_path, machine):
    with BlenderProcess(tmp_path / "blender.log", threads=1, device="cuda") as blender:
        with pytest.raises(BlenderError, match=r"--device cuda: Cycles has no CUDA device here"):
            blender.call("hello", timeout_s=60)
        assert blender.pid is None


@pytest.mark.blender
def test_blender_is_restarted_after_the_given_number_of_scenes(tmp_path):
    with BlenderProcess(tmp_path / "blender.log", threads=1, recycle_scenes=2) as blender:
        pids = []
        for _ in range(5):
            blender.begin_scene()
            pids.append(blender.call("hello", timeout_s=60)["pid"])
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]
    assert blender.recycled == 2 and blender.restarts == 0


@pytest.mark.blender
def test_blender_is_restarted_when_its_memory_has_grown(tmp_path, monkeypatch):
    grown = {"mb": 0.0}
    monkeypatch.setattr(
        "datagen.blender.process.resident_mb", lambda pid: resident_mb(pid) + grown["mb"]
    )
    with BlenderProcess(tmp_path / "blender.log", threads=1, recycle_growth_mb=400) as blender:
        for mb, is_due in [(0, False), (0, False), (100, False), (500, True), (500, False)]:
            grown["mb"] = mb
            assert blender.begin_scene() == is_due
            blender.call("hello", timeout_s=60)


@pytest.mark.blender
def test_timeout_counts_from_the_last_view(tmp_path, monkeypatch):
    """Progress messages take longer than the timeout, and then the answer comes."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "worker.py").write_text(
        "import json, os, sys, time\n"
        "fd = int(sys.argv[-2])\n"
        "send = lambda message: os.write(fd, json.dumps(message).encode() + b'\\n')\n"
        "for line in sys.stdin:\n"
        "    job = json.loads(line)\n"
        "    for _ in range(job.get('views', 0)):\n"
        "        time.sleep(0.2)\n"
        "        send({'progress': True})\n"
        "    time.sleep(job.get('silent_s', 0))\n"
        "    send({'device': 'CPU', 'devices': [], 'blender': '4.5.0', 'done': 1})\n"
    )
    monkeypatch.setattr("datagen.blender.process.scripts_folder", lambda: scripts)
    with BlenderProcess(tmp_path / "blender.log", device="cpu") as blender:
        assert blender.call("render", timeout_s=1.5, views=10)["done"] == 1
        with pytest.raises(BlenderTimedOut, match="no progress") as timeout:
            blender.call("render", timeout_s=0.5, silent_s=60)
    assert timeout.value.kind == "timeout"


def test_folders_of_killed_processes_are_deleted_and_locked_ones_stay():
    abandoned = scratch_root() / "of-one-that-was-killed"
    with scratch_folder() as held:
        (abandoned / "blender").mkdir(parents=True)
        assert clear_abandoned(scratch_root()) >= 1
        assert held.is_dir() and not abandoned.exists()
    assert not held.exists()
