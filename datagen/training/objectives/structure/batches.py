"""The batches of the structure model, with all random draws."""

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
    """Return a batch with ``config.instances_per_view`` instances of each view.

    A view with fewer instances repeats them, so that no batch needs padding. A subset of the
    instances is enough, because the scene's loss does not depend on them. The draws of a view
    depend on the seed, the split, the step and its place alone. So any number of processes, and
    any split into smaller batches, gives the same training.

    Args:
        samples: this process's samples of the step.
        config: the settings.
        split: ``train`` or ``val``.
        step: counted from 0.
        places: index of each sample among all of the step.
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
    """Return the images of a scene and of the chosen instances, or their stored tokens.

    Returns:
        (K + 1, S, S, 3) uint8, or (K + 1, T, C) float16.
    """
    if sample.tokens is not None:
        return sample.tokens.read([0, *(1 + chosen).tolist()])
    return np.stack([sample.scene_image, *sample.instance_images[chosen]])
