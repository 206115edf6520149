"""One training in several processes: all this project's trainer knows of them is torch's own.

Whoever starts the processes (see executors) starts ``torch.distributed``; where nobody did, there
is one process. View i of a step belongs to process i mod W.
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
    """Say whether somebody has started ``torch.distributed`` in this process."""
    return dist.is_available() and dist.is_initialized()


@dataclass(frozen=True)
class Ranks:
    """Which process this is, of how many."""

    rank: int = 0
    world: int = 1

    @classmethod
    def current(cls) -> "Ranks":
        """Return this process's place."""
        return cls(dist.get_rank(), dist.get_world_size()) if is_distributed() else cls()

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def places(self, batch_size: int) -> range:
        """Return which views of a step are this process's.

        Raises:
            ConfigError: the processes cannot have equally many.
        """
        if batch_size % self.world:
            raise ConfigError(
                f"batch_size {batch_size} cannot be shared by {self.world} processes. Expected a "
                "multiple of their number; change --workers or --batch-size."
            )
        return range(self.rank, batch_size, self.world)

    def gather(self, share: Tensor) -> Tensor:
        """Return the rows (B, ...) of a step from every process's share (B / W, ...)."""
        if self.world == 1:
            return share
        shares = [torch.empty_like(share) for _ in range(self.world)]
        dist.all_gather(shares, share.contiguous())
        return torch.stack(shares, dim=1).flatten(0, 1)

    def check_same(self, step: int, device: str) -> None:
        """Check that all processes go on from the same step.

        Raises:
            StageError: they do not see the same files.
        """
        steps = self.gather(torch.tensor([step], device=device)).tolist()
        if len(set(steps)) > 1:
            raise StageError(
                f"train: the processes found states of steps {steps}. Expected the same one: every "
                "machine must see the workspace (--root) at the same place, on a shared disk."
            )

    def wait(self) -> None:
        """Wait for the other processes."""
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
        """Wrap ``module``, which computes with ``model``.

        Args:
            module: what is called.
            model: what has the weights; where ``sharded``, each process keeps a part of them.
            ranks: one process: nothing is wrapped.
            sharded: FSDP instead of DDP.
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
        # Buffers (position embeddings, latent statistics) are the same everywhere, and stay so.
        return cls(nn.parallel.DistributedDataParallel(module, broadcast_buffers=False))

    @contextmanager
    def gradients(self, *, now: bool) -> Iterator[None]:
        """Average gradients in this backward pass, or only add them up in this process."""
        if isinstance(self.module, nn.parallel.DistributedDataParallel) and not now:
            with self.module.no_sync():
                yield
            return
        if self.sharded:
            for part in self.module.modules():
                if isinstance(part, FSDPModule):
                    part.set_requires_gradient_sync(now)
        yield
