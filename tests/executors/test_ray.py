"""Ray: whoever is killed, no Blender stays behind, and the rerun gives the undisturbed bytes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from datagen.engine.stage import RunOptions
from datagen.executors.local import LocalExecutor
from datagen.shards import Folder, open_dataset
from tests.engine.toy import Toy, shard_hashes
from tests.processes import is_alive, kill, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def start(root: Path, slow_s: float) -> "subprocess.Popen[str]":
    words = [str(root), str(root / "journal"), str(slow_s)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.executors.blender_toy", *words],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
    )


def blenders(root: Path) -> list[int]:
    return [int(path.name) for path in (root / "pids").glob("*")]


def family(driver: int) -> dict[str, list[psutil.Process]]:
    """Return the processes that descend from the driver, by what they are."""
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.Process(driver).children(recursive=True):
        try:
            words = " ".join(process.cmdline())
        except psutil.NoSuchProcess:  # it ended since it was listed
            continue
        for kind in ("gcs_server", "raylet/raylet", "ray::_Worker", "blender_scripts/worker.py"):
            if kind in words.split(" --")[0]:
                found.setdefault(kind, []).append(process)
    return found


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("reference")
    Toy(count=12).run(Folder.at(root), LocalExecutor(), RunOptions())
    return shard_hashes(root / "toy")


@pytest.fixture
def running(tmp_path) -> Iterator["subprocess.Popen[str]"]:
    """A driver whose two workers have their Blenders and have made a unit or more."""
    driver = start(tmp_path, slow_s=1.0)
    journal = tmp_path / "journal"
    assert wait_until(lambda: len(blenders(tmp_path)) == 2 and journal.exists(), 120)
    everybody = psutil.Process(driver.pid).children(recursive=True)
    yield driver
    driver.kill()
    driver.communicate()
    for process in everybody:
        kill(process)


@pytest.mark.blender
@pytest.mark.parametrize("victim", ["driver", "raylet", "gcs", "all of Ray"])
def test_kill_leaves_no_orphan_and_the_rerun_gives_the_same_bytes(
    tmp_path, running, reference, victim
):
    ours = [process for kind in family(running.pid).values() for process in kind]
    members = family(running.pid)
    victims = {
        "driver": [psutil.Process(running.pid)],
        "raylet": members["raylet/raylet"],
        "gcs": members["gcs_server"],
        "all of Ray": [*members["gcs_server"], *members["raylet/raylet"], *members["ray::_Worker"]],
    }[victim]
    for process in victims:
        kill(process)
    _, words = running.communicate(timeout=150)
    if victim in ("driver", "all of Ray"):  # without the others, workers that are up may finish
        assert running.returncode != 0
    if victim == "all of Ray":
        assert "run the same command again, it makes only what is missing" in words
    assert wait_until(lambda: not any(map(is_alive, blenders(tmp_path))), 30)
    # Ray's own agents (its dashboard's) take a minute to see that their raylet is gone.
    assert wait_until(lambda: not any(is_alive(process.pid) for process in ours), 30), ours
    Toy(count=12).run(Folder.at(tmp_path), LocalExecutor(), RunOptions())
    assert shard_hashes(tmp_path / "toy") == reference


@pytest.mark.blender
def test_killed_actor_takes_its_blender_along_and_the_run_goes_on(tmp_path, running, reference):
    actor = family(running.pid)["ray::_Worker"][0]
    theirs = [child.pid for child in actor.children(recursive=True)]
    assert set(theirs) & set(blenders(tmp_path))
    os.kill(actor.pid, signal.SIGKILL)
    assert wait_until(lambda: not any(map(is_alive, theirs)), 20)
    _, words = running.communicate(timeout=120)
    assert running.returncode == 0, words
    assert "a worker died" in words
    assert open_dataset(tmp_path / "toy").manifest["failed"] == []
    assert shard_hashes(tmp_path / "toy") == reference
    assert not any(map(is_alive, blenders(tmp_path)))
