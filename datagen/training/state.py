"""Weights, their average, the optimizer and the step: all that a training is at one moment."""

import copy
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from datagen.core.fields import deciding_fields
from datagen.errors import ConfigError, DatasetError, StageError
from datagen.models import SceneModel
from datagen.models.dinov2 import DINOV2_LARGE, DinoV2
from datagen.models.initial_weights import load_initial
from datagen.models.structured_latent_model import StructuredLatentModel
from datagen.training.clipping import GradClipper
from datagen.training.config import FlowMatching, TrainConfig, learning_rate
from datagen.training.distributed import Ranks, Shared
from datagen.training.objectives.batches import Batch
from datagen.training.objectives.objective import Network, build_network, network_args
from datagen.training.objectives.structure import FlowDraw, flow_losses
from datagen.training.objectives.structured_latents import SlatLosses

logger = logging.getLogger(__name__)

BAD_STEPS = 3
"""So many steps in a row without a finite loss and gradient end the run."""
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


@dataclass(frozen=True)
class StepResult:
    """What came of a step: of all processes' views together."""

    t_B: NDArray[np.float32]
    """(B,), the views' times."""
    loss_BG: NDArray[np.float32]
    """(B, G), the loss of every grid, the scene first; or (B, K), of every instance."""
    grad_norm: float
    """Before clipping."""
    lr: float
    skipped: int
    """Steps so far that changed nothing, since their loss or gradient was not finite."""
    has_scene: bool = True
    """Whether the first loss of a view is its scene's."""

    @property
    def loss(self) -> float:
        return float(self.loss_BG.mean())

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


class FlowLosses(nn.Module):
    """The losses of latents and images, as one module: what DDP wraps."""

    def __init__(self, flow: FlowMatching, model: SceneModel) -> None:
        super().__init__()
        self.flow, self.model = flow, model

    def forward(self, latents: Tensor, images: Tensor, drawn: FlowDraw) -> Tensor:
        """Return (B, G): see ``flow_losses``; latents raw."""
        return flow_losses(self.flow, self.model, self.model.normalize(latents), images, drawn)


class TrainState:
    """A training at one moment.

    It holds no random state: every draw belongs to its step and its place in it, and the learning
    rate is a function of the step.
    """

    def __init__(
        self,
        config: TrainConfig,
        device: str,
        ranks: Ranks,
        init: str | None = None,
        image_encoder: DinoV2 | None = None,
        args: dict[str, Any] | None = None,
    ) -> None:
        self.args = args or network_args(config, ())
        self.config, self.device, self.ranks = config, device, ranks
        self.step = self.skipped = self.bad_in_a_row = 0
        self.best_loss: float | None = None
        self._micro = config.micro_batch_size
        self.model = build_network(config, self.args)
        if config.image_encoder is not None:
            assert isinstance(self.model, SceneModel)  # the structured-latent model trains its own
            self.model.image_encoder = _checked(image_encoder, config, self.args)
        self.has_statistics = load_initial(self.model, init) if init else False
        self.model.to(device)
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        if isinstance(self.model, SceneModel):
            self.model.flow.use_checkpoint = config.activation_checkpointing
        if config.compile_blocks:
            for block in self.model.flow.blocks:
                block.compile()
        losses = _losses_of(config.flow, self.model)
        self._shared = Shared.of(losses, self.model, ranks, sharded=config.fsdp)
        self._ema_losses = _losses_of(config.flow, self.ema)
        self._shared_ema = Shared.of(self._ema_losses, self.ema, ranks, sharded=config.fsdp)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        self.clipper = GradClipper(config.grad_clip, adaptive=config.adaptive_clip)

    def set_statistics(self, *statistics: Tensor) -> None:
        """Normalise by the data's statistics: see ``fit_statistics``.

        Of latents, mean and spread (8, 1, 1, 1); of features what ``feature_statistics`` returns.
        """
        for model in (self.model, self.ema):
            if isinstance(model, StructuredLatentModel):
                model.set_statistics(*statistics)
                continue
            mean, std = statistics
            model.latent_mean.copy_(mean)
            model.latent_std.copy_(std / model.flow.data_std)
        self.has_statistics = True

    def take_step(self, batch: Batch) -> StepResult:
        """Take one step with this process's share of its views.

        A loss or gradient that is not finite changes no weight; it is counted.

        Raises:
            StageError: not even one view fits the GPU's memory.
        """
        lr = learning_rate(self.config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        loss_BG = self._add_gradients(batch)
        share = torch.cat([batch.drawn.t_B[:, None].to(self.device), loss_BG], dim=1)
        rows = self.ranks.gather(share).cpu().numpy()
        norm = self.clipper.clip(self.model.parameters())
        self.step += 1
        losses, has_scene = (rows[:, 0], rows[:, 1:]), isinstance(self.model, SceneModel)
        result = StepResult(*losses, norm, lr, self.skipped, has_scene)
        if result.is_finite:
            self.bad_in_a_row = 0
            self.optimizer.step()
            self._update_average()
            return result
        self.bad_in_a_row += 1
        self.skipped += 1
        return StepResult(*losses, norm, lr, self.skipped, has_scene)

    @torch.no_grad()
    def validation_loss(self, batch: Batch) -> float:
        """Return the averaged model's loss."""
        size = self._micro or self.config.batch_size
        parts = [batch[i : i + size] for i in range(0, len(batch), size)]
        losses = [self._losses(self._ema_losses, part) for part in parts]
        return float(torch.cat(losses).mean().item())

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Compute matrix products in the training's precision."""
        half = self.config.precision == "bfloat16"
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=half):
            yield

    def state_dict(self) -> dict[str, Any]:
        """Return all of it, as any number of processes takes it; every process must call."""
        return {
            "config": deciding_fields(self.config),
            "step": self.step,
            "skipped": self.skipped,
            "bad_in_a_row": self.bad_in_a_row,
            "best_loss": self.best_loss,
            "clipper": self.clipper.state_dict(),
            "model": get_model_state_dict(self.model, options=WHOLE),
            "ema": get_model_state_dict(self.ema, options=WHOLE),
            "optimizer": get_optimizer_state_dict(self.model, self.optimizer, options=WHOLE),
        }

    def load_state_dict(self, state: dict[str, Any], where: Path) -> None:
        """Take over a state.

        Raises:
            DatasetError: it is of a run with other settings.
        """
        ours, theirs = deciding_fields(self.config), state["config"]
        names = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
        if names:
            raise DatasetError(
                f"{where}: was written with another {', '.join(names)}. Expected the settings of "
                "this run; use --overwrite or another --root."
            )
        self.step, self.skipped = state["step"], state["skipped"]
        self.bad_in_a_row, self.best_loss = state["bad_in_a_row"], state["best_loss"]
        self.has_statistics = True
        self.clipper.load_state_dict(state["clipper"])
        set_model_state_dict(self.model, state["model"], options=WHOLE)
        set_model_state_dict(self.ema, state["ema"], options=WHOLE)
        set_optimizer_state_dict(
            self.model, self.optimizer, optim_state_dict=state["optimizer"], options=WHOLE
        )

    def averaged_model(self) -> Network:
        """Return the averaged model, whole; every process must call."""
        if not self._shared_ema.sharded:
            return self.ema
        tensors = get_model_state_dict(self.ema, options=WHOLE)
        model = build_network(self.config, self.args)
        model.requires_grad_(False)
        if isinstance(model, SceneModel):
            model.image_encoder = model.image_encoder or self.model.image_encoder
        if self.ranks.is_first:
            model.load_state_dict(tensors)
        return model

    def _add_gradients(self, batch: Batch) -> Tensor:
        """Fill the gradients; returns the losses (B, G)."""
        while True:
            try:
                return self._gradients_of(batch, min(self._micro or len(batch), len(batch)))
            except torch.OutOfMemoryError as error:
                tried = min(self._micro or len(batch), len(batch))
                self._micro = smaller_batch(tried, self.ranks.world, error)

    def _gradients_of(self, batch: Batch, size: int) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        found = []
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            with self._shared.gradients(now=start + size >= len(batch)):
                loss_BG = self._losses(self._shared.module, part)
                (loss_BG.mean(dim=1).sum() / len(batch)).backward()  # type: ignore[no-untyped-call]
            found.append(loss_BG.detach())
        return torch.cat(found)

    def _losses(self, module: nn.Module, batch: Batch) -> Tensor:
        with self.autocast():
            losses: Tensor = module(*batch.inputs(self.device))
            return losses

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = self.config.ema_decay
        if self.config.ema_warmup:
            decay = min(decay, (1 + self.step) / (10 + self.step))
        averages, values = list(self.ema.parameters()), list(self.model.parameters())
        for average, value in zip(averages, values, strict=True):
            average.lerp_(value, 1 - decay)


def _losses_of(flow: FlowMatching, network: Network) -> nn.Module:
    """Return the losses of a network as one module."""
    if isinstance(network, StructuredLatentModel):
        return SlatLosses(flow, network)
    return FlowLosses(flow, network)


def _checked(encoder: DinoV2 | None, config: TrainConfig, args: dict[str, Any]) -> DinoV2:
    """Return a frozen encoder whose tokens the model can take.

    Raises:
        ConfigError: they have another width.
    """
    wanted = args["flow"]["cond_channels"]
    if encoder is None or encoder.channels != wanted:
        raise ConfigError(
            f"--image-encoder {config.image_encoder}: its tokens have "
            f"{encoder and encoder.channels} channels, and --model {config.model} takes {wanted}. "
            f"Expected {DINOV2_LARGE}, or another of that width."
        )
    return encoder


def smaller_batch(tried: int, world: int, error: torch.OutOfMemoryError) -> int:
    """Return half the number of views that did not fit.

    Raises:
        StageError: it was one view, or other processes wait for this one's gradients.
    """
    reason = str(error).splitlines()[0] if str(error) else "no details"
    if tried <= 1:
        raise StageError(
            f"train: GPU out of memory with one view at once ({reason}). Expected a GPU with more "
            "free memory; use --activation-checkpointing, several GPUs with --fsdp, or a smaller "
            "--model."
        ) from error
    half = tried // 2
    if world > 1:
        raise StageError(
            f"train: GPU out of memory with {tried} views at once ({reason}). Give "
            f"--micro-batch-size {half}: the same training, and it goes on where it stopped."
        ) from error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    logger.warning(
        f"train: GPU out of memory with {tried} views at once; going on with {half} at a time, "
        f"the same training (--micro-batch-size {half} spares the attempt)"
    )
    return half
