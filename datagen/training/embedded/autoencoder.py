"""Train the small sparse-structure autoencoder on voxels of random scenes.

``python -m datagen.training.embedded.autoencoder --assets FOLDER [FOLDER ...] --out FOLDER
--minutes 30``. A run resumes from ``OUT/checkpoint.pt``. A tenth of the objects, chosen by a hash
of the asset_id, is held out. The run ends after a given time, so two machines make different
weights of about the same quality.
"""

import json
import logging
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from datagen.core.seeding import rng_for, seed_for
from datagen.models.patches import patchify
from datagen.models.small_autoencoder import (
    OFFSET,
    SmallSparseStructureDecoder,
    SmallSparseStructureEncoder,
    gather_neighbourhoods,
)
from datagen.training.embedded.random_voxels import (
    find_geometry,
    is_held_out,
    sample_object,
    sample_random_scene,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainAutoencoder:
    """Train the small autoencoder and write its weights."""

    assets: tuple[Path, ...]
    """Asset folders; their files geometry/*.npz are read."""

    out: Path
    """Folder of the weights and of the checkpoint to resume from."""

    minutes: float = 30.0
    """Training time, earlier runs that this one resumes included."""

    channels: int = 256
    """Hidden channels of both networks."""

    num_blocks: int = 3
    """Residual blocks in the decoder; the encoder has one fewer."""

    vague: float = 0.3
    """Share of the grids whose codes are shrunk, as an uncertain flow model predicts them."""

    noise: float = 0.1
    """Noise on the latents while training, as a share of their standard deviation."""

    lr: float = 2e-3
    """Learning rate after the warm-up; it then falls along a cosine to nearly zero."""

    scenes_per_step: int = 3
    """Random scenes per step; each gives a grid of the scene and one of each object."""

    objects_per_step: int = 6
    """Full-size objects per step."""

    num_threads: int = 1
    """Threads of torch; one more thread makes voxels."""

    seed: int = 0
    """Seed of scenes, weights and noise."""


class Autoencoder(nn.Module):
    """Encoder and decoder, and their loss."""

    def __init__(self, config: TrainAutoencoder) -> None:
        super().__init__()
        self.encoder_args = {"channels": config.channels, "num_blocks": config.num_blocks - 1}
        self.decoder_args = {"channels": config.channels, "num_blocks": config.num_blocks}
        self.encoder = SmallSparseStructureEncoder(**self.encoder_args)
        self.decoder = SmallSparseStructureDecoder(**self.decoder_args)
        self.noise = config.noise * self.encoder.latent_scale
        self.vague = config.vague

    def loss(self, occupancy: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the intersection over union, () each.

        The loss is binary cross-entropy and dice, plus a penalty for latents beyond 2.5 standard
        deviations. It is computed on the occupied patches, a third of their neighbours and a few
        of the others.

        Args:
            occupancy: (B, 1, 64, 64, 64), bool.
        """
        side = occupancy.shape[-1] // self.encoder.patch_size
        patches = torch.unflatten(patchify(occupancy, self.encoder.patch_size), 1, (side,) * 3)
        occupied = patches.any(dim=-1)
        codes = self.encoder.encode_patches(patches[occupied].float())
        latent = codes.new_zeros(*occupied.shape, self.encoder.latent_channels)
        latent[occupied] = self._blur(codes, occupied) + OFFSET
        near = F.max_pool3d(occupied[:, None].float(), 3, stride=1, padding=1)[:, 0]
        # All occupied patches, a third of their neighbours, a few of the others.
        chance = torch.where(occupied, 1.0, torch.where(near > 0, 0.34, 0.02))
        chosen = torch.rand_like(chance) < chance
        around = gather_neighbourhoods(latent.permute(0, 4, 1, 2, 3), chosen)
        logits = self.decoder.decode_neighbourhoods(around).float()
        target = patches[chosen].float()
        probability = logits.sigmoid()
        dice = 1 - 2 * (probability * target).sum() / (probability.sum() + target.sum())
        scaled = codes / self.encoder.latent_scale
        penalty = F.relu(scaled.abs() - 2.5).square().mean()
        loss = F.binary_cross_entropy_with_logits(logits, target) + 0.2 * dice + 0.1 * penalty
        hit, true = logits > 0, target > 0.5
        return loss, (hit & true).sum() / (hit | true).sum()

    def _blur(self, codes: Tensor, occupied: Tensor) -> Tensor:
        """Return codes (N, C) with noise added; the codes of some grids are also shrunk."""
        is_vague = torch.rand(len(occupied), device=codes.device) < self.vague
        clarity = torch.where(is_vague, torch.rand_like(is_vague, dtype=codes.dtype), 1.0)
        per_patch = clarity[occupied.nonzero()[:, 0], None]
        return per_patch * codes + self.noise * torch.randn_like(codes)


def sample_grids(config: TrainAutoencoder, paths: list[Path], step: int) -> Tensor:
    """Return one step's grids (B, 1, 64, 64, 64), bool, from the step's own random stream."""
    rng = rng_for(config.seed, "autoencoder", step)
    grids = [sample_random_scene(paths, rng) for _ in range(config.scenes_per_step)]
    chosen = rng.integers(len(paths), size=config.objects_per_step)
    grids += [sample_object(paths[index], rng) for index in chosen]
    return torch.from_numpy(np.concatenate(grids)[:, None])


def grid_stream(config: TrainAutoencoder, paths: list[Path], first_step: int) -> Iterator[Tensor]:
    """Yield the grids (B, 1, 64, 64, 64) of each step; a thread makes those of the next one."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(sample_grids, config, paths, first_step)
        for step in range(first_step + 1, 2**31):
            ready, pending = pending, pool.submit(sample_grids, config, paths, step)
            yield ready.result()


def timed_learning_rate(config: TrainAutoencoder, step: int, elapsed_s: float) -> float:
    """Return the learning rate: a cosine over the training time, after 200 steps of warm-up."""
    progress = min(elapsed_s / (60 * config.minutes), 1.0)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.lr * min(1.0, (step + 1) / 200) * (0.005 + 0.995 * cosine)


def train(config: TrainAutoencoder) -> None:
    """Train for the given time; write the weights every two minutes and at the end."""
    paths = [path for path in find_geometry(config.assets) if not is_held_out(path)]
    run = TrainingRun(config)
    run.resume()
    limit_s = 60 * config.minutes
    if run.elapsed_s >= limit_s:
        logger.info("autoencoder: complete after %.1f min, nothing to do", run.elapsed_s / 60)
        return
    saved_s, started = run.elapsed_s, time.monotonic() - run.elapsed_s
    for grids in grid_stream(config, paths, run.step):
        loss, iou = run.advance(grids)
        run.elapsed_s = time.monotonic() - started
        if run.step % 100 == 0:
            logger.info(
                "autoencoder: step %d, %.1f of %.1f min, loss %.4f, IoU %.3f",
                *(run.step, run.elapsed_s / 60, config.minutes, loss, iou),
            )
        if run.elapsed_s >= limit_s or run.elapsed_s - saved_s > 120:
            saved_s = run.elapsed_s
            run.save(paths)
        if run.elapsed_s >= limit_s:
            break
    logger.info("autoencoder: %d steps → %s", run.step, config.out)


class TrainingRun:
    """The state of a training, which a resumed run takes over."""

    def __init__(self, config: TrainAutoencoder) -> None:
        torch.manual_seed(seed_for(config.seed, "autoencoder", "weights"))
        self.config = config
        self.model = Autoencoder(config)
        self.average = AveragedModel(self.model, avg_fn=_average, use_buffers=True)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=config.lr, weight_decay=0.01)
        self.step = 0
        self.elapsed_s = 0.0

    @property
    def checkpoint(self) -> Path:
        """File of the state."""
        return self.config.out / "checkpoint.pt"

    def resume(self) -> None:
        """Load the checkpoint if there is one."""
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed_s = state["step"], state["elapsed_s"]
        logger.info("autoencoder: resuming at step %d, %.1f min", self.step, self.elapsed_s / 60)

    def advance(self, grids: Tensor) -> tuple[float, float]:
        """Take one step on grids (B, 1, 64, 64, 64), bool; return loss and IoU."""
        for group in self.optimizer.param_groups:
            group["lr"] = timed_learning_rate(self.config, self.step, self.elapsed_s)
        with torch.autocast("cpu", torch.bfloat16):
            loss, iou = self.model.loss(grids)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.average.update_parameters(self.model)
        self.step += 1
        return loss.item(), iou.item()

    def save(self, paths: list[Path]) -> None:
        """Write the checkpoint, atomically, and the averaged weights."""
        self.config.out.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
        }
        partial = self.checkpoint.with_suffix(".part")
        torch.save(state, partial)
        partial.replace(self.checkpoint)
        averaged = cast(Autoencoder, self.average.module)
        write_weights(averaged, self.config.out)


def _average(mean: Tensor, current: Tensor, num_averaged: Tensor | int) -> Tensor:
    """Return the moving average of the weights: over a few steps at first, later over 500."""
    if not mean.is_floating_point():
        return current
    keep = min(0.998, float(num_averaged) / (float(num_averaged) + 10))
    return mean.lerp(current, 1 - keep)


def write_weights(model: Autoencoder, out: Path) -> None:
    """Write small_ss_enc and small_ss_dec as NAME.json and NAME.safetensors, float16."""
    halves: tuple[tuple[str, nn.Module, dict[str, Any]], ...] = (
        ("small_ss_enc", model.encoder, model.encoder_args),
        ("small_ss_dec", model.decoder, model.decoder_args),
    )
    for name, network, args in halves:
        description = {"name": type(network).__name__, "args": args}
        (out / f"{name}.json").write_text(json.dumps(description, indent=2) + "\n")
        tensors = {
            key: value.half() if value.is_floating_point() else value
            for key, value in network.state_dict().items()
        }
        save_file(tensors, out / f"{name}.safetensors")


def train_autoencoder() -> None:
    """Read the command line, then train."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config = tyro.cli(TrainAutoencoder)
    # Both settings hold for the whole process, so they are made here and nowhere else.
    torch.set_flush_denormal(True)
    torch.set_num_threads(config.num_threads)
    train(config)


if __name__ == "__main__":
    train_autoencoder()
