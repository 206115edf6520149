"""Training of the structured-latent model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from datagen.errors import ConfigError
from datagen.models.dinov2 import DinoV2
from datagen.models.structured_latent_model import (
    LATENT_CHANNELS,
    SLAT_ARGS,
    StructuredLatentModel,
    build_slat_model,
)
from datagen.shards import Dataset
from datagen.shards.declared import SLAT_MODEL
from datagen.training.data.images import Resizing
from datagen.training.data.sources import RawView, ViewSource
from datagen.training.objectives.batches import Batch
from datagen.training.objectives.objective import Objective, Scorer, views_of_each
from datagen.training.objectives.structured_latents.batches import make_slat_batch
from datagen.training.objectives.structured_latents.losses import SlatLosses
from datagen.training.objectives.structured_latents.sampled import score_features
from datagen.training.objectives.structured_latents.samples import SlatSample, decode_slat_sample
from datagen.training.objectives.structured_latents.source import RawSlat, SlatSource
from datagen.training.objectives.structured_latents.statistics import feature_statistics

MOST_VIEWS = 256
"""Maximum number of views per source that statistics are computed from: millions of voxels."""


@dataclass(frozen=True)
class StructuredLatentObjective(Objective[SlatSample, StructuredLatentModel]):
    """Trains the structured-latent model on the features of instances' voxels."""

    sizes = SLAT_ARGS
    table = SLAT_MODEL
    stored = "slat_features"
    source = SlatSource
    loss_parts: ClassVar = {}

    def __post_init__(self) -> None:
        config = self.config
        if config.scene_context_blocks is not None:
            raise ConfigError(
                f"scene_context_blocks is {config.scene_context_blocks}. Expected none with "
                f"--model {config.model}: in a structured-latent model no instance sees its scene."
            )
        if config.image_encoder is not None:
            raise ConfigError(
                f"--image-encoder {config.image_encoder}: --model {config.model} trains its own "
                "encoder. Expected --model iscene-L with it, or None."
            )
        if config.activation_checkpointing:
            raise ConfigError(
                "--activation-checkpointing: a structured-latent model does not support it. "
                "Expected --model small or iscene-L with it; lower --micro-batch-size instead."
            )

    def network_args(self, sources: Sequence[ViewSource[Any]]) -> dict[str, Any]:
        """Return the arguments of the network, with the number of feature channels of the data."""
        first = sources[0]
        assert isinstance(first, SlatSource), "the structured-latent model is trained on features"
        return {**self.size, "feature_channels": first.feature_channels}

    def build_network(
        self, args: dict[str, Any], image_encoder: DinoV2 | None = None
    ) -> StructuredLatentModel:
        """Return the network before its first step; its image encoder is always its own."""
        return build_slat_model(args, self.config.seed)

    def decode(self, view: RawView[RawSlat], size_px: int, resize: Resizing) -> SlatSample:
        """Return the sample of a view: see ``decode_slat_sample``."""
        return decode_slat_sample(view, size_px, resize)

    def batch(
        self, samples: Sequence[SlatSample], split: str, step: int, places: Sequence[int]
    ) -> Batch:
        """Return a batch of samples: see ``make_slat_batch``."""
        return make_slat_batch(samples, self.config, split, step, places)

    def losses(self, network: StructuredLatentModel) -> nn.Module:
        """Return ``SlatLosses`` of the network."""
        return SlatLosses(self.config.flow, network)

    def statistics(self, sources: Sequence[ViewSource[Any]]) -> tuple[Tensor, ...]:
        """Return mean (C,), principal directions (C, 8) and their standard deviations (8,)."""
        count = min(views_of_each(sources), MOST_VIEWS)
        views = (view for source in sources for view in source.sample_latents(count))
        return feature_statistics(views, LATENT_CHANNELS)

    def load_decoder(self, name: str | None, latents: Dataset, device: str) -> None:
        """Return None: sampled features are compared directly, without a decoder."""

    def scorer(self, decoder: nn.Module | None) -> Scorer[StructuredLatentModel, SlatSample]:
        """Return ``score_features``, which needs no decoder."""
        return score_features
