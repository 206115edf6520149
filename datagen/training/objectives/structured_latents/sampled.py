"""Errors of sampled held-out views while the structured-latent model trains."""

from collections.abc import Sequence
from pathlib import Path

import torch

from datagen.models.structured_latent_model import StructuredLatentModel
from datagen.sampling.scenes import SamplerConfig
from datagen.sampling.structured_latents import sample_structured_latents
from datagen.training.objectives.objective import Scores
from datagen.training.objectives.structured_latents.samples import SlatSample


def score_features(
    model: StructuredLatentModel, samples: Sequence[SlatSample], folder: Path, step: int
) -> Scores:
    """Return the ``sampled_error`` of held-out views; no images are drawn."""
    return Scores({"sampled_error": sampled_error(model, samples, SamplerConfig())})


@torch.inference_mode()
def sampled_error(
    model: StructuredLatentModel, samples: Sequence[SlatSample], sampler: SamplerConfig
) -> float:
    """Return the mean squared error of sampled latents, divided by the mean square of the true.

    0 is perfect. Zeros (the mean of all features) give 1; pure noise gives about 2.
    """
    device = model.feature_mean.device
    wrong, whole = 0.0, 0.0
    for index, sample in enumerate(samples):
        images = torch.from_numpy(sample.instance_images)[None].to(device)
        made = sample_structured_latents(
            model.flow,
            [torch.from_numpy(coords) for coords in sample.coords],
            model.encode_images(images)[0].float(),
            sampler,
            torch.Generator().manual_seed(index),
            mean=(0.0,) * model.flow.in_channels,
            std=(1.0,) * model.flow.in_channels,
        )
        for latents, features in zip(made, sample.features, strict=True):
            assert latents is not None  # every instance has a voxel
            true = model.normalize(torch.from_numpy(features).float().to(device))
            wrong += float((latents.feats - true).square().sum())
            whole += float(true.square().sum())
    return wrong / whole
