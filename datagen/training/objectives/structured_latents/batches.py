"""The batches of the structured-latent model, with all random draws.

Shape suffixes: B views, K instances of each, M padded voxels, C channels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datagen.core.seeding import rng_for
from datagen.models.structured_latent_model import LATENT_CHANNELS
from datagen.training.config import TrainConfig
from datagen.training.objectives.batches import Batch, choose_instances
from datagen.training.objectives.flow_matching import FlowDraw, draw
from datagen.training.objectives.structured_latents.samples import SlatSample


@dataclass(frozen=True)
class SlatBatch(Batch):
    """The views of one step, on the CPU; all instances are padded to M voxels.

    ``latents`` are features (B, K, M, C), ``images`` are (B, K, S, S, 3), the noise is
    (B, K, M, 8).
    """

    coords: Tensor
    """(B, K, M, 3) uint8, voxels 0 to 63 along x, y, z."""
    counts: Tensor
    """(B, K), voxels of each instance; they come first, padding follows."""

    def __getitem__(self, chosen: slice) -> "SlatBatch":
        """Return some of the views."""
        views, latents, images = self.views[chosen], self.latents[chosen], self.images[chosen]
        drawn, coords, counts = self.drawn[chosen], self.coords[chosen], self.counts[chosen]
        return SlatBatch(views, latents, images, drawn, coords, counts)

    def inputs(self, device: str) -> tuple[Tensor | FlowDraw, ...]:
        """Return features, images, draws, voxels and counts (B, K, ...), on a device."""
        return (*super().inputs(device), self.coords.to(device), self.counts.to(device))


def make_slat_batch(
    samples: Sequence[SlatSample],
    config: TrainConfig,
    split: str,
    step: int,
    places: Iterable[int],
) -> SlatBatch:
    """Return a batch with ``config.instances_per_view`` instances of each view: see ``make_batch``.

    The noise of a view is drawn before it is padded, so it does not depend on the other views.
    """
    rows, draws = [], []
    for sample, place in zip(samples, places, strict=True):
        rng = rng_for(config.seed, split, step, place)
        chosen = choose_instances(rng, sample.num_instances, config.instances_per_view)
        most = max(len(sample.coords[index]) for index in chosen)
        shape = torch.Size((1, len(chosen), most, LATENT_CHANNELS))
        draws.append(draw(config.flow, rng, shape))
        rows.append((sample, chosen, most))
    most = max(count for _, _, count in rows)
    return SlatBatch(
        views=tuple((sample.layout_id, sample.view_index) for sample in samples),
        latents=_stack([[s.features[i] for i in chosen] for s, chosen, _ in rows], most).float(),
        images=torch.from_numpy(np.stack([s.instance_images[chosen] for s, chosen, _ in rows])),
        drawn=FlowDraw.join(
            [FlowDraw(one.t_B, _pad(one.noise, most, 2), one.keep_condition_B) for one in draws]
        ),
        coords=_stack([[s.coords[i] for i in chosen] for s, chosen, _ in rows], most),
        counts=torch.tensor([[len(s.coords[i]) for i in chosen] for s, chosen, _ in rows]),
    )


def _stack(arrays: Sequence[Sequence[NDArray[np.generic]]], most: int) -> Tensor:
    """Return B lists of K arrays (M, C) as one tensor (B, K, most, C), padded with zeros."""
    parts = [[_pad(torch.from_numpy(array), most, 0) for array in view] for view in arrays]
    return torch.stack([torch.stack(view) for view in parts])


def _pad(tensor: Tensor, length: int, axis: int) -> Tensor:
    """Return a tensor (...) with zeros added at the end of an axis, to a length."""
    shape = list(tensor.shape)
    shape[axis] = length - shape[axis]
    return torch.cat([tensor, tensor.new_zeros(shape)], dim=axis)
