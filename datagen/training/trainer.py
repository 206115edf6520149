"""The training loop of the flow model: resumable, and the same after a resume."""

import copy
import itertools
import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from datagen.core.seeding import rng_for
from datagen.errors import DatasetError, StageError
from datagen.models import MODEL_ARGS, ModelSize, SceneModel, build_model, save_model
from datagen.models.denormals import denormals_flushed
from datagen.training.flow_matching import FlowMatching, draw, flow_loss
from datagen.training.loader import SceneLoader
from datagen.training.samples import SceneSample, latent_statistics, training_batch

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
MODEL = "model"
SECONDS_PER_LOG_LINE = 10.0
VALIDATION_BATCHES = 4
STATISTICS_VIEWS = 4096
"""Views that mean and spread of the latents are taken from: 65 million numbers a channel."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides a trained model, besides the samples."""

    model: ModelSize = "small"
    """The network's size."""

    max_steps: int = 1000
    """Optimizer steps."""

    batch_size: int = 4
    """Views a step."""

    instances_per_view: int = 3
    """Instances drawn from each of them."""

    lr: float = 2e-3
    """Highest learning rate."""

    lr_schedule: Literal["constant", "cosine"] = "cosine"
    """What follows the warm-up: the same rate, or a fall to zero at the last step."""

    warmup_steps: int = 50
    """Steps over which the learning rate rises."""

    weight_decay: float = 0.0

    grad_clip: float = 1.0
    """Highest norm of the gradient."""

    ema_decay: float = 0.99
    """Share of the averaged weights that a step keeps; less in the first steps."""

    normalize_latents: bool = True
    """Give each latent channel mean 0 and the spread that the model expects (TRELLIS does not)."""

    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """What matrix products are computed in (weights and their updates stay in float32)."""

    flow: FlowMatching = field(default_factory=lambda: FlowMatching(t_std=2.0, t_floor=1.0))
    """The objective. Default: wide times, since a short training meets t near 1 too seldom, where
    sampling starts; and the plain error of x_0, which the small model predicts."""

    checkpoint_every: int = 200
    """Steps between states to resume from."""

    validate_every: int = 200
    """Steps between validation losses."""

    seed: int = 0


ISCENE_L = TrainConfig(
    model="iscene-L",
    max_steps=130_000,
    batch_size=8,
    instances_per_view=1,
    lr=5e-5,
    lr_schedule="constant",
    warmup_steps=0,
    ema_decay=0.9999,
    normalize_latents=False,
    flow=FlowMatching(),
    checkpoint_every=1000,
    validate_every=1000,
)
"""The paper's numbers (batch for one of its eight GPUs); where it is silent, TRELLIS's."""


def train_flow(
    loader: SceneLoader,
    val_samples: Sequence[SceneSample],
    config: TrainConfig,
    folder: Path,
    *,
    device: str = "cpu",
) -> SceneModel:
    """Train, or go on from the folder's last state, and write the averaged model.

    Step s takes the loader's samples [s·B, (s + 1)·B), B = ``batch_size``. Every draw belongs to
    its step, so that a run that was killed gives the losses (on one CPU and number of threads: bit
    for bit) of one that was not.

    Args:
        loader: what is trained on, at its start.
        val_samples: what the validation loss is measured on, ``VALIDATION_BATCHES`` batches at
            most; may be empty.
        config: all settings.
        folder: gets ``model.json`` and ``model.safetensors`` (averaged weights, last of all),
            ``log.jsonl`` (a line a step), ``tensorboard/`` and the state ``checkpoint.pt``.
        device: where the network lives.

    Returns:
        The averaged model, in evaluation mode.

    Raises:
        StageError: the loss is no longer finite.
        DatasetError: the folder holds the state of a run with other settings or data, or a sample
            is corrupt.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = _TrainState(config, device)
    if not state.resume(folder / CHECKPOINT, loader):
        state.fit_normalization(loader)
    with _Log(folder, state.step) as log, denormals_flushed():
        while state.step < config.max_steps:
            waited = time.monotonic()
            samples = list(itertools.islice(loader, config.batch_size))
            log.waited += time.monotonic() - waited
            log.step(state.step + 1, config.max_steps, state.train_step(samples))
            if _is_due(state.step, config.validate_every, config.max_steps) and val_samples:
                log.validation(state.step, state.validation_loss(val_samples))
            if _is_due(state.step, config.checkpoint_every, config.max_steps):
                log.flush()
                state.write(folder / CHECKPOINT, loader)
    save_model(state.ema, folder / MODEL, MODEL_ARGS[config.model])
    return state.ema.eval()


class _TrainState:
    """Weights, their average, the optimizer and the step: all that a resume needs."""

    def __init__(self, config: TrainConfig, device: str) -> None:
        self.config = config
        self.device = device
        self.step = 0
        self.model = build_model(config.model, config.seed).to(device)
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )

    def fit_normalization(self, loader: SceneLoader) -> None:
        """Take mean and spread of the latents from a look over the data, if they are wanted."""
        if not self.config.normalize_latents:
            return
        mean, std = latent_statistics(loader.sample_latents(STATISTICS_VIEWS))
        for model in (self.model, self.ema):
            model.latent_mean.copy_(mean)
            model.latent_std.copy_(std / model.flow.data_std)

    def train_step(self, samples: Sequence[SceneSample]) -> dict[str, float]:
        """Take one step; returns loss, gradient norm and learning rate."""
        lr = learning_rate(self.config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        loss = self._loss(self.model, samples, "train", self.step)
        value = loss.item()
        if not math.isfinite(value):
            raise StageError(
                f"train: the loss of step {self.step + 1} is {value}, expected a finite number. "
                f"Lower --lr (now {self.config.lr:g}) or look for broken latents, and start again "
                "with --overwrite."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return {"loss": value, "grad_norm": norm.item(), "lr": lr}

    @torch.no_grad()
    def validation_loss(self, samples: Sequence[SceneSample]) -> float:
        """Return the averaged model's loss on always the same draws."""
        size = self.config.batch_size
        batches = [samples[i : i + size] for i in range(0, len(samples), size)]
        batches = batches[:VALIDATION_BATCHES]
        losses = [self._loss(self.ema, batch, "val", i).item() for i, batch in enumerate(batches)]
        return sum(losses) / len(losses)

    def write(self, path: Path, loader: SceneLoader) -> None:
        """Write the state beside the target and rename: a kill leaves the old or the new one."""
        partial = path.with_name(f".{path.name}.part")
        state = {
            "config": asdict(self.config),
            "step": self.step,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loader": loader.state_dict(),
        }
        torch.save(state, partial)
        partial.replace(path)

    def resume(self, path: Path, loader: SceneLoader) -> bool:
        """Take over the state, if there is one; say whether there was."""
        if not path.is_file():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        theirs, ours = state["config"], asdict(self.config)
        if theirs != ours:
            names = [name for name in ours if theirs.get(name) != ours[name]]
            raise DatasetError(
                f"{path}: was written with another {', '.join(names)}. Expected the settings of "
                "this run; use --overwrite or another --root."
            )
        loader.load_state_dict(state["loader"])
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        logger.info("train: going on from step %d of %d", self.step, self.config.max_steps)
        return True

    def _loss(
        self, model: SceneModel, samples: Sequence[SceneSample], split: str, index: int
    ) -> torch.Tensor:
        config = self.config
        rng = rng_for(config.seed, split, index)
        latents, images = training_batch(samples, config.instances_per_view, rng)
        drawn = draw(config.flow, rng, latents.shape).to(self.device)
        x_0 = model.normalize(latents.to(self.device))
        half = config.precision == "bfloat16"
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=half):
            return flow_loss(config.flow, model, x_0, images.to(self.device), drawn)

    @torch.no_grad()
    def _update_average(self) -> None:
        # A short run must not average over its random start.
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        for average, value in zip(self.ema.parameters(), self.model.parameters(), strict=True):
            average.lerp_(value, 1 - decay)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate of a step counted from 0."""
    warmup = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    if config.lr_schedule == "constant":
        return config.lr * warmup
    return config.lr * warmup * 0.5 * (1 + math.cos(math.pi * step / config.max_steps))


class _Log:
    """``log.jsonl``, TensorBoard and a line every ten seconds."""

    def __init__(self, folder: Path, start_step: int) -> None:
        path = folder / LOG
        kept = [line for line, record in _records(path) if record["step"] <= start_step]
        partial = path.with_name(f".{path.name}.part")
        partial.write_text("".join(kept))
        partial.replace(path)  # steps after the last state are made again
        self._file = path.open("a")
        self._writer = SummaryWriter(folder / "tensorboard", purge_step=start_step + 1)
        self._started = self._last_line = time.monotonic()
        self._start_step = start_step
        self.waited = 0.0
        """Seconds spent waiting for samples."""

    def __enter__(self) -> "_Log":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        self._writer.close()

    def step(self, step: int, max_steps: int, values: dict[str, float]) -> None:
        self._record(step, values)
        now = time.monotonic()
        if now - self._last_line >= SECONDS_PER_LOG_LINE or step == max_steps:
            self._last_line = now
            seconds = max(now - self._started, 1e-9)
            rate = (step - self._start_step) / seconds
            logger.info(
                "train: step %d of %d, loss %.4f, %.1f steps/s (%.0f %% waiting for data), "
                "%.1f min left",
                step,
                max_steps,
                values["loss"],
                rate,
                100 * self.waited / seconds,
                (max_steps - step) / rate / 60,
            )

    def validation(self, step: int, loss: float) -> None:
        self._record(step, {"val_loss": loss})

    def flush(self) -> None:
        self._file.flush()

    def _record(self, step: int, values: dict[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the whole lines of a log; the last one of a killed run may be half."""
    if path.is_file():
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield line, json.loads(line)


def _is_due(step: int, every: int, last: int) -> bool:
    return step % every == 0 or step == last
