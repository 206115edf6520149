"""Training of the structure model."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from datagen.errors import ConfigError
from datagen.models import MODEL_ARGS, SceneModel, build_model
from datagen.models.dinov2 import DINOV2_LARGE, DinoV2
from datagen.models.named_checkpoints import load_autoencoder
from datagen.models.scene_model import model_args
from datagen.shards import Dataset
from datagen.shards.declared import MODEL
from datagen.training.config import TrainConfig
from datagen.training.data.images import Resizing
from datagen.training.data.sources import RawView, ViewSource
from datagen.training.objectives.batches import Batch
from datagen.training.objectives.objective import Objective, Scorer, views_of_each
from datagen.training.objectives.structure.batches import make_batch
from datagen.training.objectives.structure.losses import FlowLosses
from datagen.training.objectives.structure.sampled import score_views
from datagen.training.objectives.structure.samples import SceneSample, decode_sample
from datagen.training.objectives.structure.source import RawLatents, SceneSource
from datagen.training.objectives.structure.statistics import latent_statistics

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StructureObjective(Objective[SceneSample, SceneModel]):
    """Trains the structure model on the latents of scenes and their instances."""

    sizes = MODEL_ARGS
    table = MODEL
    stored = "latents"
    source = SceneSource
    loss_parts: ClassVar = {"loss_scene": 0, "loss_instances": slice(1, None)}

    def __post_init__(self) -> None:
        self.network_args()
        if self.config.image_encoder is not None and "mean_heads" in self.size:
            raise ConfigError(
                f"--image-encoder {self.config.image_encoder}: --model {self.config.model} trains "
                "its own encoder. Expected --model iscene-L with it, or None."
            )

    def network_args(self, sources: Sequence[ViewSource[Any]] = ()) -> dict[str, Any]:
        """Return the arguments of the network; they are the same for all data."""
        return model_args(
            self.size,
            image_encoder=self.config.image_encoder,
            scene_context_blocks=self.config.scene_context_blocks,
            low_rank_mean=self.config.low_rank_mean,
        )

    def build_network(
        self, args: dict[str, Any], image_encoder: DinoV2 | None = None
    ) -> SceneModel:
        """Return the network before its first step: see ``Objective.build_network``."""
        model = build_model(args, self.config.seed)
        if self.config.image_encoder is not None:
            model.image_encoder = _checked(image_encoder, self.config, args)
        model.flow.use_checkpoint = self.config.activation_checkpointing
        return model

    def decode(self, view: RawView[RawLatents], size_px: int, resize: Resizing) -> SceneSample:
        """Return the sample of a view: see ``decode_sample``."""
        return decode_sample(view, size_px, resize)

    def batch(
        self, samples: Sequence[SceneSample], split: str, step: int, places: Sequence[int]
    ) -> Batch:
        """Return a batch of samples: see ``make_batch``."""
        return make_batch(samples, self.config, split, step, places)

    def losses(self, network: SceneModel) -> nn.Module:
        """Return ``FlowLosses`` of the network."""
        return FlowLosses(self.config.flow, network)

    def statistics(self, sources: Sequence[ViewSource[Any]]) -> tuple[Tensor, ...]:
        """Return mean and standard deviation of each latent channel, (8, 1, 1, 1) each."""
        count = views_of_each(sources)
        return latent_statistics(
            view for source in sources for view in source.sample_latents(count)
        )

    def load_decoder(self, name: str | None, latents: Dataset, device: str) -> nn.Module | None:
        """Return the structure decoder; None if it is not known or no scene is sampled."""
        if name is None and latents.fields.get("encoder") == "small":
            name = "small"
        if not self.config.sample_every or name is None:
            logger.info("train: no scenes are sampled; --decoder and --sample-every turn it on")
            return None
        return load_autoencoder(name, "decoder", torch.device(device))

    def scorer(self, decoder: nn.Module | None) -> Scorer[SceneModel, SceneSample] | None:
        """Return ``score_views`` with the decoder."""
        return None if decoder is None else partial(score_views, decoder)


def _checked(encoder: DinoV2 | None, config: TrainConfig, args: dict[str, Any]) -> DinoV2:
    """Return the frozen encoder, if its tokens have the width that the model takes.

    Raises:
        ConfigError: they have another width.
    """
    wanted = args["flow"]["cond_channels"]
    if encoder is None or encoder.channels != wanted:
        raise ConfigError(
            f"--image-encoder {config.image_encoder}: its tokens have "
            f"{encoder and encoder.channels} channels, and --model {config.model} takes {wanted}. "
            f"Expected {DINOV2_LARGE}, or another of that width."
        )
    return encoder
