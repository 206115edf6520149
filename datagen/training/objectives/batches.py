"""What a step trains on: views, some of their instances, and all that is random about them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from datagen.training.objectives.flow_matching import FlowDraw


@dataclass(frozen=True)
class Batch:
    """Views of one step, on the CPU."""

    views: tuple[tuple[int, int], ...]
    """Layout and view of each."""
    latents: Tensor
    """(B, K + 1, 8, 16, 16, 16) float32, raw, the scene first."""
    images: Tensor
    """(B, K + 1, S, S, 3) uint8; or, where they are stored, their tokens (B, K + 1, T, C) float16.
    """
    drawn: FlowDraw

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, chosen: slice) -> "Batch":
        """Return some of the views."""
        return Batch(
            self.views[chosen], self.latents[chosen], self.images[chosen], self.drawn[chosen]
        )

    def inputs(self, device: str) -> tuple[Tensor | FlowDraw, ...]:
        """Return what the losses are computed from, on a device."""
        return self.latents.to(device), self.images.to(device), self.drawn.to(device)

    def plain(self) -> dict[str, Any]:
        """Return everything by name, as ``torch.load(..., weights_only=True)`` reads it."""
        return {
            "views": list(self.views),
            "latents": self.latents,
            "images": self.images,
            "t": self.drawn.t_B,
            "noise": self.drawn.noise,
            "keep_condition": self.drawn.keep_condition_B,
        }


def choose_instances(
    rng: np.random.Generator, num_instances: int, wanted: int
) -> NDArray[np.int64]:
    """Return which instances of a view are trained on, (wanted,).

    A view with fewer instances gives some twice, so that no batch needs padding.
    """
    order = rng.permutation(num_instances)
    return np.resize(order, wanted)  # repeats the order from its start
