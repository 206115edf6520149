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
from datagen.training import SceneSample, TrainConfig, train_flow
from datagen.training.trainer import learning_rate

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


def tiny_samples(count: int = 3) -> list[SceneSample]:
    rng = np.random.default_rng(0)
    return [
        SceneSample(
            layout_id=i,
            view_index=0,
            scene_latent=rng.normal(size=(8, 16, 16, 16)).astype(np.float16),
            instance_latents=rng.normal(size=(2, 8, 16, 16, 16)).astype(np.float16),
            scene_image=rng.integers(0, 256, (32, 32, 3), np.uint8),
            instance_images=rng.integers(0, 256, (2, 32, 32, 3), np.uint8),
        )
        for i in range(count)
    ]


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch):
    monkeypatch.setitem(MODEL_ARGS, "small", TINY)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(folder: Path, config: TrainConfig = CONFIG, samples=None):
    samples = samples if samples is not None else tiny_samples()
    return train_flow(samples, samples[:1], config, folder)


def read_log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_training_writes_a_model_that_loads_and_a_log_of_every_step(tmp_path):
    model = train(tmp_path)
    loaded = load_model(tmp_path / "model", device="cpu")
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    records = read_log(tmp_path)
    assert [r["step"] for r in records if "loss" in r] == list(range(1, 10))
    assert [r["step"] for r in records if "val_loss" in r] == [4, 8, 9]
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("died_in_step", [2, 6, 8])
def test_run_that_died_and_went_on_equals_one_that_did_not(tmp_path, monkeypatch, died_in_step):
    whole = train(tmp_path / "whole")

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
        train(tmp_path / "broken")
    assert not (tmp_path / "broken" / "model.json").exists()
    monkeypatch.setattr(trainer, "flow_loss", real)
    resumed = train(tmp_path / "broken")

    assert read_log(tmp_path / "broken") == read_log(tmp_path / "whole")
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


KILLED_RUN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
import test_trainer as case
from datagen.models import MODEL_ARGS
torch.set_num_threads(1)
MODEL_ARGS["small"] = case.TINY
print("ready", flush=True)
case.train(Path(sys.argv[1]), case.LONG)
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
def test_run_killed_by_the_system_goes_on_to_the_same_losses(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(KILLED_RUN)
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder), str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while process.poll() is None and not (folder / "checkpoint.pt").is_file():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL

    train(folder, LONG)
    train(tmp_path / "whole", LONG)
    assert read_log(folder) == read_log(tmp_path / "whole")


def test_half_written_log_line_of_a_killed_run_is_dropped(tmp_path):
    train(tmp_path / "whole")
    train(tmp_path / "broken", CONFIG)
    # As if the run had died after the state of step 8, in the middle of a line.
    log = tmp_path / "broken" / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 10, "lo')
    train(tmp_path / "broken", CONFIG)
    assert read_log(tmp_path / "broken") == read_log(tmp_path / "whole")


def test_folder_of_other_settings_is_refused_with_the_names_that_differ(tmp_path):
    train(tmp_path)
    other = TrainConfig(**{**vars(CONFIG), "lr": 1e-4, "seed": 6})
    with pytest.raises(DatasetError, match="another lr, seed"):
        train(tmp_path, other)


def test_loss_that_is_not_finite_ends_the_run(tmp_path):
    samples = tiny_samples()
    samples[0].scene_latent[0, 0, 0, 0] = np.nan
    with pytest.raises(StageError, match="the loss of step 1 is nan"):
        train(tmp_path, samples=samples[:1])
    assert not (tmp_path / "model.json").exists()


def test_no_samples_is_an_error(tmp_path):
    with pytest.raises(StageError, match="got 0 samples"):
        train_flow([], [], CONFIG, tmp_path)


def test_training_lowers_the_loss_on_one_sample(tmp_path):
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
    train(tmp_path, config, tiny_samples(1))
    losses = [r["loss"] for r in read_log(tmp_path) if "loss" in r]
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:10])


def test_learning_rate_rises_then_stays_or_falls_to_zero():
    constant = TrainConfig(max_steps=100, warmup_steps=10, lr=1.0, lr_schedule="constant")
    cosine = TrainConfig(max_steps=100, warmup_steps=10, lr=1.0, lr_schedule="cosine")
    assert learning_rate(constant, 4) == pytest.approx(0.5)
    assert learning_rate(constant, 99) == 1.0
    assert learning_rate(cosine, 50) == pytest.approx(0.5)
    assert learning_rate(cosine, 99) < 1e-3
