"""Two processes with torch's own launcher: the trainer must need nothing else."""

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from datagen.errors import ConfigError
from datagen.models import load_model
from datagen.training import TrainConfig
from datagen.training.distributed import Ranks
from tests.training.scenes import write_scenes
from tests.training.tiny import read_log, train

CONFIG = TrainConfig(
    max_steps=4,
    batch_size=4,
    instances_per_view=2,
    warmup_steps=2,
    precision="float32",
    adaptive_clip=True,
    checkpoint_every=2,
    validate_every=2,
    seed=5,
)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), {0: 3, 1: 2, 2: 2}, noise=True)


def process(rank: int, port: int, folder: Path, scenes: Path, config: TrainConfig) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    train(folder, scenes, config)
    dist.destroy_process_group()


def train_in_two(folder: Path, scenes: Path, config: TrainConfig) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(process, (port, folder, scenes, config), nprocs=2)


def check_same(folder: Path, other: Path) -> None:
    ours, theirs = read_log(folder), read_log(other)
    assert [record["step"] for record in ours] == [record["step"] for record in theirs]
    for mine, one in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(one, rel=1e-5, abs=1e-7)
    models = [load_model(path / "model", device="cpu").state_dict() for path in (folder, other)]
    torch.testing.assert_close(*models, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "how", [{}, {"micro_batch_size": 1}, {"fsdp": True}, {"fsdp": True, "micro_batch_size": 1}]
)
def test_two_processes_train_as_one_on_the_same_views(tmp_path, scenes, how):
    config = TrainConfig(**{**vars(CONFIG), **how})
    train_in_two(tmp_path / "two", scenes, config)
    train(tmp_path / "one", scenes, CONFIG)
    check_same(tmp_path / "two", tmp_path / "one")


@pytest.mark.parametrize("fsdp", [False, True])
def test_state_of_one_process_goes_on_in_two(tmp_path, scenes, fsdp):
    """And with it Adam's moments, the average, the clipper and the loader's place."""
    train(tmp_path / "one", scenes, CONFIG)
    folder = tmp_path / "then-two"
    train(folder, scenes, CONFIG)
    (folder / "checkpoints" / "step-00000004.pt").unlink()
    train_in_two(folder, scenes, TrainConfig(**{**vars(CONFIG), "fsdp": fsdp}))
    check_same(folder, tmp_path / "one")


def test_state_of_two_sharded_processes_goes_on_in_one(tmp_path, scenes):
    train(tmp_path / "one", scenes, CONFIG)
    folder = tmp_path / "two"
    train_in_two(folder, scenes, TrainConfig(**{**vars(CONFIG), "fsdp": True}))
    (folder / "checkpoints" / "step-00000004.pt").unlink()
    train(folder, scenes, CONFIG)
    check_same(folder, tmp_path / "one")


def test_batch_that_the_processes_cannot_share_equally_is_refused():
    assert list(Ranks(1, 2).places(6)) == [1, 3, 5]
    with pytest.raises(ConfigError, match="batch_size 5 cannot be shared by 2 processes"):
        Ranks(1, 2).places(5)
