"""Several machines: GPUs are shared between workers."""

import os
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
from datagen.executors.ray import RayExecutor
from datagen.shards import Folder
from tests.engine.toy import Toy

pytestmark = [pytest.mark.ray, pytest.mark.slow]


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
        pytest.raises(StageError, match=r"--device cuda: no machine of the Ray cluster has a GPU"),
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
