"""Several machines: one is lost in the middle, and GPUs are shared between workers."""

import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from datagen.engine.stage import Inputs, RunOptions
from datagen.engine.units import Process, WorkerContext
from datagen.errors import StageError
from datagen.executors.job import WorkerSettings
from datagen.executors.local import LocalExecutor
from datagen.executors.ray import RayExecutor
from datagen.shards import Folder
from tests.engine.test_stage import shard_hashes
from tests.executors.test_ray import wait_until
from tests.stages.toy import Toy

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster  # noqa: TID251

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield made
    made.shutdown()


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


@dataclass(frozen=True, kw_only=True)
class GpuToy(Toy):
    """Writes which GPU Ray gave to each worker."""

    uses_gpu: ClassVar[bool] = True

    @contextmanager
    def open(self, inputs: Inputs, context: WorkerContext) -> Iterator[Process]:
        assert self.journal is not None
        given = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
        (self.journal / f"{context.name}-{given}").touch()
        yield lambda unit: [{"layout_id": unit, "vector": np.zeros(self.length)}]


def test_workers_share_gpus_by_slots_and_none_runs_without_one(tmp_path, cluster):
    with (
        closing(RayExecutor(4, WorkerSettings(device="cuda"), cluster.address)) as executor,
        pytest.raises(StageError, match=r"--device cuda: no machine of Ray's has a GPU"),
    ):
        GpuToy(journal=tmp_path).run(Folder.at(tmp_path), executor, RunOptions())
    cluster.add_node(num_cpus=4, num_gpus=1)
    journal = tmp_path / "gpus"
    journal.mkdir()
    toy = GpuToy(journal=journal)
    with closing(
        RayExecutor(4, WorkerSettings(device="cuda"), cluster.address, slots_per_gpu=2)
    ) as executor:
        toy.run(Folder.at(tmp_path), executor, RunOptions())
    given = sorted(path.name for path in journal.iterdir())
    assert given == ["worker-00-0", "worker-01-0"]
