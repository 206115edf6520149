"""The log of a training: ``log.jsonl``, TensorBoard, and a log line every few seconds."""

import json
import logging
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from datagen.training.state import StepResult

logger = logging.getLogger(__name__)

LOG = "log.jsonl"
SECONDS_PER_LOG_LINE = 10.0
STEPS_PER_SPEED = 50
T_BUCKETS = 5
"""Losses are also logged by t, in this number of equal parts of [0, 1]."""


class TrainingLog:
    """The log of one training. A resumed run rewrites the steps after the state it resumes from."""

    def __init__(self, folder: Path, start_step: int, max_steps: int, batch_size: int) -> None:
        path = folder / LOG
        kept = [line for line, record in _records(path) if record["step"] <= start_step]
        partial = path.with_name(f".{path.name}.part")
        partial.write_text("".join(kept))
        partial.replace(path)
        self._file = path.open("a")
        self._writer = SummaryWriter(folder / "tensorboard", purge_step=start_step + 1)
        self._max_steps, self._batch_size = max_steps, batch_size
        self._start_step = self._speed_step = start_step
        self._started = self._last_line = self._speed_time = time.monotonic()
        self._waited = self._speed_waited = 0.0

    def close(self) -> None:
        """Close the log file and TensorBoard's."""
        self._file.close()
        self._writer.close()

    def flush(self) -> None:
        """Write out buffered lines, so that no saved state is ahead of the log."""
        self._file.flush()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time in the block as waiting for data."""
        started = time.monotonic()
        yield
        self._waited += time.monotonic() - started

    def step(self, step: int, result: StepResult) -> None:
        """Log a step's losses, and every ``STEPS_PER_SPEED`` steps the speed."""
        self.record(step, step_values(result))
        if step % STEPS_PER_SPEED == 0 or step == self._max_steps:
            self._speed(step)
        now = time.monotonic()
        if now - self._last_line >= SECONDS_PER_LOG_LINE or step == self._max_steps:
            self._last_line = now
            seconds = max(now - self._started, 1e-9)
            rate = (step - self._start_step) / seconds
            logger.info(
                f"train: step {step} of {self._max_steps}, loss {result.loss:.4f}, "
                f"{rate:.1f} steps/s ({self._waited / seconds:.0%} waiting for data), "
                f"{(self._max_steps - step) / rate / 60:.1f} min left"
            )

    def record(self, step: int, values: dict[str, float]) -> None:
        """Log values of a step, by name."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def image(self, step: int, path: Path) -> None:
        """Add an image file to TensorBoard."""
        pixels = np.asarray(Image.open(path).convert("RGB"))
        self._writer.add_image(f"sampled/{path.stem}", pixels, step, dataformats="HWC")

    def _speed(self, step: int) -> None:
        now = time.monotonic()
        seconds = max(now - self._speed_time, 1e-9)
        rate = (step - self._speed_step) / seconds
        self.record(
            step,
            {
                "steps_per_s": rate,
                "views_per_s": rate * self._batch_size,
                "data_wait": (self._waited - self._speed_waited) / seconds,
                "memory_gib": peak_memory_gib(),
            },
        )
        self._speed_step, self._speed_time, self._speed_waited = step, now, self._waited


def step_values(result: StepResult) -> dict[str, float]:
    """Return the values of a step's line, by name; a skipped step has no finite losses to log."""
    if not result.is_finite:
        return {"lr": result.lr, "skipped_steps": result.skipped}
    loss_BG = result.loss_BG
    values = {
        "loss": result.loss,
        "grad_norm": result.grad_norm,
        "lr": result.lr,
    }
    for name, part in result.parts.items():
        values[name] = float(loss_BG[:, part].mean())
    buckets = np.minimum((result.t_B * T_BUCKETS).astype(int), T_BUCKETS - 1)
    for bucket in np.unique(buckets):
        name = f"loss_t_{bucket / T_BUCKETS:.1f}-{(bucket + 1) / T_BUCKETS:.1f}"
        values[name] = float(loss_BG[buckets == bucket].mean())
    return values


def peak_memory_gib() -> float:
    """Return the peak memory so far, GiB: of the GPU if there is one, else of this process."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated() / 2**30)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the complete lines of a log; a killed run may leave an incomplete last line."""
    if path.is_file():
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield line, json.loads(line)
