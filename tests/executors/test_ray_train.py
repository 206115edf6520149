"""Training processes on Ray: their number, torch.distributed among them, and their errors."""

import pytest

from datagen.errors import ConfigError, StageError
from datagen.executors.job import WorkerSettings
from datagen.executors.ray import RayExecutor
from datagen.executors.ray_train import processes_that_fit
from tests.executors.summing import Sum, results


@pytest.mark.parametrize(
    ("wanted", "cores", "divides", "expected"),
    [(8, 8, 64, 8), (8, 6, 64, 4), (3, 8, 64, 2), (6, 8, 6, 6), (64, 64, 5, 5), (1, 8, 4, 1)],
)
def test_processes_are_the_most_that_fit_and_share_the_batch_equally(
    wanted, cores, divides, expected
):
    resources = {"CPU": float(cores), "GPU": 0.0}
    assert processes_that_fit(wanted, resources, divides, use_gpu=False) == expected


def test_gpus_and_not_cores_count_where_they_are_used():
    assert processes_that_fit(8, {"CPU": 64.0, "GPU": 2.0}, 64, use_gpu=True) == 2
    with pytest.raises(StageError, match="no room"):
        processes_that_fit(8, {"CPU": 64.0}, 64, use_gpu=True)


@pytest.fixture(scope="module")
def executor():
    executor = RayExecutor(2, WorkerSettings(device="cpu"))
    yield executor
    executor.close()


@pytest.mark.ray
def test_processes_see_each_other_through_torch_distributed(tmp_path, executor):
    executor.train(Sum(tmp_path))
    assert results(tmp_path) == ["3 cpu True", "3 cpu True"]


@pytest.mark.ray
def test_error_of_ours_in_one_process_ends_all_with_its_words(tmp_path, executor):
    with pytest.raises(ConfigError, match=r"^one process found a wrong field\.$"):
        executor.train(Sum(tmp_path, "raise"))
    assert results(tmp_path) == []
