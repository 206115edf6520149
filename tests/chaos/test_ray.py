"""Ray: whoever is killed, no Blender stays behind, and the rerun gives the undisturbed bytes."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from datagen.engine.stage import RunOptions
from datagen.executors.job import WorkerSettings
from datagen.executors.local import LocalExecutor
from datagen.executors.ray import RayExecutor
from datagen.shards import Folder, open_dataset
from tests.engine.toy import Toy, shard_hashes
from tests.executors.summing import Sum, results
from tests.processes import family, is_alive, kill, wait_until

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
def test_killed_actor_takes_its_blender_along_and_the_run_continues(tmp_path, running, reference):
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


def test_machine_lost_in_the_middle_costs_no_row(tmp_path, cluster):
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    Toy(count=30).run(Folder.at(calm), LocalExecutor(), RunOptions())
    journal = tmp_path / "journal"

    def lose_one() -> None:
        wait_until(lambda: journal.exists() and len(journal.read_text().split()) >= 6, 90)
        cluster.remove_node(nodes[1], allow_graceful=False)

    loser = threading.Thread(target=lose_one)
    loser.start()
    with closing(RayExecutor(3, address=cluster.address)) as executor:
        toy = Toy(count=30, slow_s=0.5, journal=journal)
        dataset = toy.run(Folder.at(stormy), executor, RunOptions())
    loser.join()
    assert dataset.manifest["failed"] == []
    assert shard_hashes(stormy / "toy") == shard_hashes(calm / "toy")


@pytest.mark.ray
def test_killed_process_makes_all_start_again(tmp_path):
    with closing(RayExecutor(2, WorkerSettings(device="cpu"))) as executor:
        executor.train(Sum(tmp_path, "kill"))
    assert results(tmp_path) == ["3 cpu True", "3 cpu True"]
