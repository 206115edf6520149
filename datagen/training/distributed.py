"""One training in several processes, with ``torch.distributed``.

The executors start the processes and ``torch.distributed``. If it was not started, there is one
process. View i of a step belongs to process i mod W, where W is the number of processes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from datagen.errors import ConfigError, StageError
from datagen.models import SceneModel
from datagen.models.structured_latent_model import StructuredLatentModel


def is_distributed() -> bool:
    """Return whether ``torch.distributed`` was started in this process."""
    return dist.is_available() and dist.is_initialized()


@dataclass(frozen=True)
class Ranks:
    """The rank of this process, and the number of processes."""

    rank: int = 0
    world: int = 1

    @classmethod
    def current(cls) -> "Ranks":
        """Return the rank of this process; 0 of 1 without ``torch.distributed``."""
        return cls(dist.get_rank(), dist.get_world_size()) if is_distributed() else cls()

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files of the training."""
        return self.rank == 0

    def places(self, batch_size: int) -> range:
        """Return the indices of this process's views in a step.

        Raises:
            ConfigError: ``batch_size`` is no multiple of the number of processes.
        """
        if batch_size % self.world:
            raise ConfigError(
                f"batch_size {batch_size} cannot be shared by {self.world} processes. Expected a "
                "multiple of their number; change --workers or --batch-size."
            )
        return range(self.rank, batch_size, self.world)

    def gather(self, share: Tensor) -> Tensor:
        """Return the rows (B, ...) of a step, gathered from every process's share (B / W, ...)."""
        if self.world == 1:
            return share
        shares = [torch.empty_like(share) for _ in range(self.world)]
        dist.all_gather(shares, share.contiguous())
        return torch.stack(shares, dim=1).flatten(0, 1)

    def check_same(self, step: int, device: str) -> None:
        """Check that all processes resume from the same step.

        Raises:
            StageError: they found different states.
        """
        steps = self.gather(torch.tensor([step], device=device)).tolist()
        if len(set(steps)) > 1:
            raise StageError(
                f"train: the processes found states of steps {steps}. Expected the same step in "
                "all of them; put the workspace (--root) on a disk that all machines share, at the "
                "same path."
            )

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.world > 1:
            dist.barrier()


@dataclass(frozen=True)
class Shared:
    """A module whose backward pass averages gradients over the processes."""

    module: nn.Module
    sharded: bool = False

    @classmethod
    def of(
        cls,
        module: nn.Module,
        model: SceneModel | StructuredLatentModel,
        ranks: Ranks,
        *,
        sharded: bool,
    ) -> "Shared":
        """Return ``module`` wrapped by DDP or FSDP; unwrapped if there is one process.

        Args:
            module: computes the losses with ``model``.
            model: holds the weights.
            ranks: the processes.
            sharded: FSDP: each process keeps a part of the weights. False: DDP.
        """
        if ranks.world == 1:
            return cls(module)
        if sharded:
            for block in model.flow.blocks:
                fully_shard(block)
            fully_shard(model)
            register_fsdp_forward_method(model, "encode_images")
            return cls(module, sharded=True)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return cls(module)
        # Buffers (position embeddings, latent statistics) never change, so none is broadcast.
        return cls(nn.parallel.DistributedDataParallel(module, broadcast_buffers=False))

    @contextmanager
    def gradients(self, *, now: bool) -> Iterator[None]:
        """Run a backward pass that adds up gradients in this process.

        Args:
            now: whether it also averages them over the processes: the last pass of a step.
        """
        if isinstance(self.module, nn.parallel.DistributedDataParallel) and not now:
            with self.module.no_sync():
                yield
            return
        if self.sharded:
            for part in self.module.modules():
                if isinstance(part, FSDPModule):
                    part.set_requires_gradient_sync(now)
        yield
