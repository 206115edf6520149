"""The batch of a step: views, some of their instances, and all random draws."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from datagen.training.objectives.flow_matching import FlowDraw


@dataclass(frozen=True)
class Batch:
    """The B views of one step with K instances of each, on the CPU."""

    views: tuple[tuple[int, int], ...]
    """Layout and view of each."""
    latents: Tensor
    """(B, K + 1, 8, 16, 16, 16) float32, raw, the scene first."""
    images: Tensor
    """(B, K + 1, S, S, 3) uint8, sRGB, the scene first; or stored tokens (B, K + 1, T, C) float16.
    """
    drawn: FlowDraw
    """The random draws of the loss."""

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, chosen: slice) -> "Batch":
        """Return some of the views."""
        return Batch(
            self.views[chosen], self.latents[chosen], self.images[chosen], self.drawn[chosen]
        )

    def inputs(self, device: str) -> tuple[Tensor | FlowDraw, ...]:
        """Return the losses' inputs on a device: latents and images (B, K + 1, ...), and draws."""
        return self.latents.to(device), self.images.to(device), self.drawn.to(device)

    def plain(self) -> dict[str, Any]:
        """Return all values by name, in types that ``torch.load(weights_only=True)`` reads."""
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
    """Return the indices of the instances to train on, (wanted,), int64.

    A view with fewer instances repeats them, so that no batch needs padding.

    Args:
        rng: the random stream of the view.
        num_instances: instances of the view.
        wanted: how many to return.
    """
    order = rng.permutation(num_instances)
    return np.resize(order, wanted)  # repeats the order from its start
