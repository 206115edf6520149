import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from datagen.errors import DatasetError, StageError
from datagen.models import MODEL_ARGS, load_model
from datagen.training import SceneLoader, StreamConfig, TrainConfig, train_flow
from datagen.training.trainer import learning_rate
from tests.training.scenes import source_of, write_scenes

REPOSITORY = Path(__file__).resolve().parents[2]

TINY = {
    "flow": {
        "resolution": 16,
        "in_channels": 8,
        "out_channels": 8,
        "model_channels": 16,
        "cond_channels": 8,
        "num_blocks": 2,
        "num_heads": 2,
        "patch_size": 8,
        "qk_rms_norm": True,
        "predicts": "x_0",
        "scene_context_attn_num": 1,
    },
    "image_encoder": {"size_px": 32, "channels": 8, "num_blocks": 1, "num_heads": 2},
}
CONFIG = TrainConfig(
    max_steps=9,
    batch_size=2,
    instances_per_view=2,
    warmup_steps=2,
    checkpoint_every=4,
    validate_every=4,
    seed=5,
)


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch):
    monkeypatch.setitem(MODEL_ARGS, "small", TINY)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), {0: 1, 1: 2, 2: 1}, noise=True)


def train(folder: Path, scenes: Path, config: TrainConfig = CONFIG, num_workers: int = 0):
    source = source_of(scenes)
    stream = StreamConfig(size_px=32, seed=config.seed)
    loader = SceneLoader([source], stream, num_workers=num_workers)
    return train_flow(loader, list(SceneLoader([source], stream, stop=3)), config, folder)


def read_log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_training_writes_a_model_that_loads_and_a_log_of_every_step(tmp_path, scenes):
    model = train(tmp_path, scenes)
    loaded = load_model(tmp_path / "model", device="cpu")
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    records = read_log(tmp_path)
    assert [r["step"] for r in records if "loss" in r] == list(range(1, 10))
    assert [r["step"] for r in records if "val_loss" in r] == [4, 8, 9]
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("died_in_step", [2, 6, 8])
def test_run_that_died_and_went_on_equals_one_that_did_not(
    tmp_path, scenes, monkeypatch, died_in_step
):
    whole = train(tmp_path / "whole", scenes)

    from datagen.training import trainer

    real = trainer.flow_loss
    calls = {"left": died_in_step}

    def dying(*args):
        calls["left"] -= torch.is_grad_enabled()
        if calls["left"] < 0:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(trainer, "flow_loss", dying)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", scenes)
    assert not (tmp_path / "broken" / "model.json").exists()
    monkeypatch.setattr(trainer, "flow_loss", real)
    resumed = train(tmp_path / "broken", scenes)

    assert read_log(tmp_path / "broken") == read_log(tmp_path / "whole")
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


KILLED_RUN = """
import sys
from pathlib import Path
import torch
import tests.training.test_trainer as case
from datagen.models import MODEL_ARGS
torch.set_num_threads(1)
MODEL_ARGS["small"] = case.TINY
print("ready", flush=True)
case.train(Path(sys.argv[1]), Path(sys.argv[2]), case.LONG)
"""
LONG = TrainConfig(
    max_steps=60,
    batch_size=2,
    instances_per_view=2,
    checkpoint_every=5,
    validate_every=20,
    seed=1,
)


@pytest.mark.slow
def test_run_killed_by_the_system_goes_on_to_the_same_losses(tmp_path, scenes):
    script = tmp_path / "run.py"
    script.write_text(KILLED_RUN)
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder), str(scenes)],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
    )
    while process.poll() is None and not (folder / "checkpoint.pt").is_file():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL

    train(folder, scenes, LONG)
    train(tmp_path / "whole", scenes, LONG)
    assert read_log(folder) == read_log(tmp_path / "whole")


def test_half_written_log_line_of_a_killed_run_is_dropped(tmp_path, scenes):
    train(tmp_path / "whole", scenes)
    train(tmp_path / "broken", scenes)
    # As if the run had died after the state of step 8, in the middle of a line.
    log = tmp_path / "broken" / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 10, "lo')
    train(tmp_path / "broken", scenes)
    assert read_log(tmp_path / "broken") == read_log(tmp_path / "whole")


def test_folder_of_other_settings_is_refused_with_the_names_that_differ(tmp_path, scenes):
    train(tmp_path, scenes)
    other = TrainConfig(**{**vars(CONFIG), "lr": 1e-4, "seed": 6})
    with pytest.raises(DatasetError, match="another lr, seed"):
        train(tmp_path, scenes, other)


def test_loss_that_is_not_finite_ends_the_run(tmp_path, scenes, monkeypatch):
    from datagen.training import trainer

    monkeypatch.setattr(trainer, "flow_loss", lambda *args: torch.tensor(np.nan))
    with pytest.raises(StageError, match="the loss of step 1 is nan"):
        train(tmp_path, scenes)
    assert not (tmp_path / "model.json").exists()


def test_state_of_a_run_on_other_data_is_refused(tmp_path, scenes):
    train(tmp_path / "model", scenes)
    others = write_scenes(tmp_path / "others", {0: 2})
    with pytest.raises(DatasetError, match="with another views"):
        train(tmp_path / "model", others)


def test_worker_processes_change_no_loss(tmp_path, scenes):
    train(tmp_path / "none", scenes)
    train(tmp_path / "two", scenes, num_workers=2)
    assert read_log(tmp_path / "none") == read_log(tmp_path / "two")


def test_training_lowers_the_loss_on_one_view(tmp_path):
    config = TrainConfig(
        max_steps=80,
        batch_size=4,
        instances_per_view=2,
        lr=3e-3,
        warmup_steps=10,
        precision="float32",
        checkpoint_every=1000,
        validate_every=1000,
    )
    scenes = write_scenes(tmp_path / "scenes", {0: 1}, noise=True)
    train(tmp_path, scenes, config)
    losses = [r["loss"] for r in read_log(tmp_path) if "loss" in r]
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:10])


def test_learning_rate_rises_then_stays_or_falls_to_zero():
    constant = TrainConfig(max_steps=100, warmup_steps=10, lr=1.0, lr_schedule="constant")
    cosine = TrainConfig(max_steps=100, warmup_steps=10, lr=1.0, lr_schedule="cosine")
    assert learning_rate(constant, 4) == pytest.approx(0.5)
    assert learning_rate(constant, 99) == 1.0
    assert learning_rate(cosine, 50) == pytest.approx(0.5)
    assert learning_rate(cosine, 99) < 1e-3
