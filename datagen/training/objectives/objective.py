"""What is trained, by the name of its size: the structure model or the structured-latent model."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import nn

from datagen.models import MODEL_ARGS, ModelSize, SceneModel
from datagen.models.structured_latent_model import (
    LATENT_CHANNELS,
    SLAT_ARGS,
    StructuredLatentModel,
    build_slat_model,
)
from datagen.training.config import TrainConfig
from datagen.training.data.sources import SceneSource
from datagen.training.objectives.batches import Batch, make_batch
from datagen.training.objectives.structure_samples import SceneSample, latent_statistics
from datagen.training.objectives.structured_latent_samples import (
    AnySample,
    SlatSample,
    SlatSource,
    make_slat_batch,
)
from datagen.training.objectives.structured_latents import feature_statistics

Network = SceneModel | StructuredLatentModel


def network_args(config: TrainConfig, sources: Sequence[SceneSource]) -> dict[str, Any]:
    """Return the arguments that a network is built with, which stand in its file."""
    if config.model in SLAT_ARGS:
        [source, *_] = sources
        assert isinstance(source, SlatSource), "the structured-latent model is trained on features"
        return SLAT_ARGS[config.model] | {"feature_channels": source.feature_channels}
    return config.model_args()


def build_network(config: TrainConfig, args: dict[str, Any]) -> Network:
    """Return a freshly initialised network of ``network_args``."""
    if config.model in SLAT_ARGS:
        return build_slat_model(config.model, args["feature_channels"], config.seed)
    return config.build_model()


def image_size_px(config: TrainConfig) -> int:
    """Return the side of the images that the network's own encoder takes."""
    if config.model in SLAT_ARGS:
        return int(SLAT_ARGS[config.model]["image_encoder"]["size_px"])
    return int(MODEL_ARGS[cast(ModelSize, config.model)]["image_encoder"]["size_px"])


def fit_statistics(network: nn.Module, views: Iterable[NDArray[np.float16]]) -> tuple[Any, ...]:
    """Return what a network's latents are normalised by, from those of some views."""
    if isinstance(network, StructuredLatentModel):
        return feature_statistics(views, LATENT_CHANNELS)
    return latent_statistics(views)


def batch_of(
    samples: Sequence[AnySample], config: TrainConfig, split: str, step: int, places: Sequence[int]
) -> Batch:
    """Return the samples as one batch, with all that is random about them."""
    if config.model in SLAT_ARGS:
        slats = cast(Sequence[SlatSample], samples)
        return make_slat_batch(slats, config, LATENT_CHANNELS, split, step, places)
    return make_batch(cast(Sequence[SceneSample], samples), config, split, step, places)
