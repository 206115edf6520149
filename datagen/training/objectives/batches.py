"""What a step trains on: views, some of their instances, and all that is random about them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datagen.core.seeding import rng_for
from datagen.training.config import TrainConfig
from datagen.training.objectives.structure import FlowDraw, draw
from datagen.training.objectives.structure_samples import SceneSample


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


def make_batch(
    samples: Sequence[SceneSample],
    config: TrainConfig,
    split: str,
    step: int,
    places: Iterable[int],
) -> Batch:
    """Draw the same number of instances from each view, so that no batch needs padding.

    A view with fewer instances gives some twice. The scene branch costs the same for one instance
    as for all of them, and sees none of them: a subset is as good as the whole. What is drawn for a
    view depends on its step and its place in it alone, not on what else is in this batch: so any
    number of processes, and any cut into smaller batches, trains on the same.
    """
    latents, images, draws = [], [], []
    for sample, place in zip(samples, places, strict=True):
        rng = rng_for(config.seed, split, step, place)
        order = rng.permutation(sample.num_instances)
        chosen = np.resize(order, config.instances_per_view)  # repeats the order from its start
        grids = np.stack([sample.scene_latent, *sample.instance_latents[chosen]])
        latents.append(grids.astype(np.float32))
        images.append(_conditions(sample, chosen))
        draws.append(draw(config.flow, rng, torch.Size((1, *grids.shape))))
    return Batch(
        views=tuple((sample.layout_id, sample.view_index) for sample in samples),
        latents=torch.from_numpy(np.stack(latents)),
        images=torch.from_numpy(np.stack(images)),
        drawn=FlowDraw.join(draws),
    )


def _conditions(sample: SceneSample, chosen: NDArray[np.int64]) -> NDArray[np.generic]:
    """Return the images of a scene and of the chosen instances, or their stored tokens."""
    if sample.tokens is not None:
        return sample.tokens.read([0, *(1 + chosen).tolist()])
    return np.stack([sample.scene_image, *sample.instance_images[chosen]])
