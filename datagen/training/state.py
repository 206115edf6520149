"""The state of a training: weights, averaged weights, optimizer and step."""

import copy
import logging
import math
from collections.abc import Iterator, Mapping
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
from datagen.errors import DatasetError, StageError
from datagen.models.dinov2 import DinoV2
from datagen.models.initial_weights import load_initial
from datagen.training.clipping import GradClipper
from datagen.training.config import learning_rate
from datagen.training.distributed import Ranks, Shared
from datagen.training.objectives.batches import Batch
from datagen.training.objectives.objective import Network, Objective

logger = logging.getLogger(__name__)

BAD_STEPS = 3
"""The run ends after this many steps in a row without a finite loss and gradient."""
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


@dataclass(frozen=True)
class StepResult:
    """The result of a step, over the views of all processes."""

    t_B: NDArray[np.float32]
    """(B,), the time t of each view."""
    loss_BG: NDArray[np.float32]
    """Structure model: (B, G), the loss of each grid, the scene first. Latent model: (B, K), the
    loss of each instance."""
    grad_norm: float
    """Norm of the gradient before clipping."""
    lr: float
    """Learning rate."""
    skipped: int
    """Steps skipped so far because their loss or gradient was not finite."""
    parts: Mapping[str, int | slice]
    """Columns of ``loss_BG`` whose mean is logged under a name of its own."""

    @property
    def loss(self) -> float:
        """Mean of all losses."""
        return float(self.loss_BG.mean())

    @property
    def is_finite(self) -> bool:
        """Whether the loss and the gradient's norm are finite."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


class TrainState:
    """The state of a training at one step.

    There is no random state: each draw depends on the seed, the step and the view's index in the
    step. The learning rate is a function of the step.
    """

    def __init__(
        self,
        objective: Objective[Any, Any],
        args: dict[str, Any],
        device: str,
        ranks: Ranks,
        init: str | None = None,
        image_encoder: DinoV2 | None = None,
    ) -> None:
        """Build the network as it is before the first step.

        Args:
            objective: the model, its data and its losses.
            args: arguments of the network, from ``Objective.network_args``.
            device: torch device of the network.
            ranks: the processes that train together.
            init: weights to start from: see ``initial_weights``.
            image_encoder: the loaded frozen encoder, if ``config.image_encoder`` names one.

        Raises:
            ConfigError: the network cannot take the encoder's tokens.
            DatasetError: ``init`` is of another architecture.
        """
        self.objective, self.args, self.device, self.ranks = objective, args, device, ranks
        self.config = config = objective.config
        self.step = self.skipped = self.bad_in_a_row = 0
        self.best_loss: float | None = None
        self._micro = config.micro_batch_size
        self._image_encoder = image_encoder
        self.model: Network = objective.build_network(args, image_encoder)
        self.has_statistics = load_initial(self.model, init) if init else False
        self.model.to(device)
        self.ema: Network = copy.deepcopy(self.model).requires_grad_(False)
        if config.compile_blocks:
            for block in self.model.flow.blocks:
                block.compile()
        losses = objective.losses(self.model)
        self._shared = Shared.of(losses, self.model, ranks, sharded=config.fsdp)
        self._ema_losses = objective.losses(self.ema)
        self._shared_ema = Shared.of(self._ema_losses, self.ema, ranks, sharded=config.fsdp)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        self.clipper = GradClipper(config.grad_clip, adaptive=config.adaptive_clip)

    def set_statistics(self, *statistics: Tensor) -> None:
        """Normalise by statistics of the data, in the shapes of ``Objective.statistics``.

        Args:
            statistics: (...), one tensor for each that the network's ``set_statistics`` takes.
        """
        for model in (self.model, self.ema):
            model.set_statistics(*statistics)
        self.has_statistics = True

    def take_step(self, batch: Batch) -> StepResult:
        """Take one step with this process's share of the step's views.

        A step whose loss or gradient is not finite is counted as skipped; it changes no weight.

        Raises:
            StageError: the GPU's memory is too small.
        """
        lr = learning_rate(self.config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        loss_BG = self._add_gradients(batch)
        share = torch.cat([batch.drawn.t_B[:, None].to(self.device), loss_BG], dim=1)
        rows = self.ranks.gather(share).cpu().numpy()
        norm = self.clipper.clip(self.model.parameters())
        self.step += 1
        losses, parts = (rows[:, 0], rows[:, 1:]), self.objective.loss_parts
        result = StepResult(*losses, norm, lr, self.skipped, parts)
        if result.is_finite:
            self.bad_in_a_row = 0
            self.optimizer.step()
            self._update_average()
            return result
        self.bad_in_a_row += 1
        self.skipped += 1
        return StepResult(*losses, norm, lr, self.skipped, parts)

    @torch.no_grad()
    def validation_loss(self, batch: Batch) -> float:
        """Return the averaged model's mean loss of a batch."""
        size = self._micro or self.config.batch_size
        parts = [batch[i : i + size] for i in range(0, len(batch), size)]
        losses = [self._losses(self._ema_losses, part) for part in parts]
        return float(torch.cat(losses).mean().item())

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Compute matrix products in ``config.precision`` while the block runs."""
        half = self.config.precision == "bfloat16"
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=half):
            yield

    def state_dict(self) -> dict[str, Any]:
        """Return the full state, which any number of processes can load; all processes call it."""
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

        Args:
            state: from ``state_dict``.
            where: its file, for messages.

        Raises:
            DatasetError: the state is of a run with other settings.
        """
        ours, theirs = deciding_fields(self.config), state["config"]
        names = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
        if names:
            raise DatasetError(
                f"{where}: was written with another {', '.join(names)}. Expected the settings of "
                "this run; give the same values, or use --overwrite or another --root."
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
        """Return the averaged model with all its weights; all processes call it.

        With FSDP the weights are loaded in the first process alone.
        """
        if not self._shared_ema.sharded:
            return self.ema
        tensors = get_model_state_dict(self.ema, options=WHOLE)
        model: Network = self.objective.build_network(self.args, self._image_encoder)
        model.requires_grad_(False)
        if self.ranks.is_first:
            model.load_state_dict(tensors)
        return model

    def _add_gradients(self, batch: Batch) -> Tensor:
        """Compute the gradients; return the losses (B, G)."""
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
        averages: list[Tensor] = list(self.ema.parameters())
        values: list[Tensor] = list(self.model.parameters())
        torch._foreach_lerp_(averages, values, 1 - decay)


def smaller_batch(tried: int, world: int, error: torch.OutOfMemoryError) -> int:
    """Return half the number of views that did not fit into the GPU's memory.

    Args:
        tried: number of views that did not fit.
        world: number of processes.
        error: what torch raised.

    Raises:
        StageError: one view did not fit; or several processes train, which cannot change the
            number while they wait for each other.
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
            f"train: GPU out of memory with {tried} views at once ({reason}). Expected fewer at "
            f"once; run it again with --micro-batch-size {half}. It resumes the same training."
        ) from error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    logger.warning(
        f"train: GPU out of memory with {tried} views at once; continuing with {half} at once, "
        f"which gives the same training (--micro-batch-size {half} avoids this)"
    )
    return half
