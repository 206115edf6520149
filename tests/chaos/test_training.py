"""A killed training resumes, with the same losses as an undisturbed one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from datagen.models.devices import torch_threads
from datagen.training import TrainConfig
from tests.processes import wait_until
from tests.training.scenes import write_scenes
from tests.training.tiny import read_log, states, train

REPOSITORY = Path(__file__).resolve().parents[2]
KILLED_RUN = """
import sys
from pathlib import Path
import torch
from tests.chaos.test_training import LONG
from tests.training.tiny import train
torch.set_num_threads(1)
print("ready", flush=True)
train(Path(sys.argv[1]), Path(sys.argv[2]), LONG)
"""
LONG = TrainConfig(
    max_steps=60,
    batch_size=2,
    instances_per_view=2,
    adaptive_clip=True,
    checkpoint_every=5,
    validate_every=20,
    seed=1,
)


@pytest.mark.slow
def test_killed_training_resumes_to_the_same_losses(tmp_path):
    scenes = write_scenes(tmp_path / "scenes", {0: 1, 1: 2, 2: 1}, noise=True)
    script = tmp_path / "run.py"
    script.write_text(KILLED_RUN)
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder), str(scenes)],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
    )
    wait_until(lambda: bool(states(folder)) or process.poll() is not None, 300)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL

    with torch_threads(1):
        train(folder, scenes, LONG)
        train(tmp_path / "whole", scenes, LONG)
    assert read_log(folder) == read_log(tmp_path / "whole")
