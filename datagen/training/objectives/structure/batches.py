"""What a step of the structure model trains on, and all that is random about it."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.core.seeding import rng_for
from datagen.training.config import TrainConfig
from datagen.training.objectives.batches import Batch, choose_instances
from datagen.training.objectives.flow_matching import FlowDraw, draw
from datagen.training.objectives.structure.samples import SceneSample


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
        chosen = choose_instances(rng, sample.num_instances, config.instances_per_view)
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
