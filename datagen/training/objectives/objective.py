"""The objective: everything about a training that depends on the kind of model.

The loader, the trainer and its state use this class alone. ``objective_of`` chooses a subclass by
the name of the model.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor, nn

from datagen.models import SceneModel
from datagen.models.dinov2 import DinoV2
from datagen.models.structured_latent_model import StructuredLatentModel
from datagen.shards import Dataset
from datagen.shards.tables import Table
from datagen.training.config import TrainConfig
from datagen.training.data.images import Resizing
from datagen.training.data.loader import S
from datagen.training.data.sources import RawView, ViewSource
from datagen.training.objectives.batches import Batch

Network = SceneModel | StructuredLatentModel

N = TypeVar("N", bound=Network)

STATISTICS_VIEWS = 4096
"""Views, over all sources, that statistics are computed from: 65 million values per channel."""


@dataclass(frozen=True)
class Scores:
    """The scores of sampled held-out views."""

    values: dict[str, float]
    """Scores by their names in the log."""
    images: tuple[Path, ...] = ()
    """Drawings of the sampled views, PNG files."""


Scorer = Callable[[N, Sequence[S], Path, int], Scores]
"""Samples held-out views with a network, and draws them into a folder with the step's number."""


@dataclass(frozen=True)
class Objective(ABC, Generic[S, N]):
    """A kind of model with its data, losses and scores, for one training. Picklable.

    Raises:
        ConfigError: ``config`` has a setting that this kind of model does not support.
    """

    config: TrainConfig
    """All settings."""
    size: Mapping[str, Any] = field(repr=False)
    """Arguments of the network: those of a published size, or others."""

    sizes: ClassVar[Mapping[Any, Mapping[str, Any]]]
    """The published sizes: arguments by the name that ``--model`` takes."""
    table: ClassVar[Table]
    """Declares the dataset that the model is written to."""
    stored: ClassVar[str]
    """The value of ``encode --store`` that makes the training data."""
    source: ClassVar[type[ViewSource[Any]]]
    """Reads the training data."""
    loss_parts: ClassVar[Mapping[str, int | slice]]
    """Parts of a view's losses whose mean is also logged, by name."""

    @property
    def image_size_px(self) -> int:
        """Side of the images that the network's own encoder takes, pixels."""
        return int(self.size["image_encoder"]["size_px"])

    @abstractmethod
    def network_args(self, sources: Sequence[ViewSource[Any]]) -> dict[str, Any]:
        """Return the arguments of a network for these data; the model's file holds them."""

    @abstractmethod
    def build_network(self, args: dict[str, Any], image_encoder: DinoV2 | None = None) -> N:
        """Return the network as it is before the first step.

        Args:
            args: from ``network_args``.
            image_encoder: the loaded frozen encoder, if ``config.image_encoder`` names one.

        Raises:
            ConfigError: the encoder's tokens have another width than the network takes.
        """

    @abstractmethod
    def decode(self, view: RawView[Any], size_px: int, resize: Resizing) -> S:
        """Return the sample of a view.

        Args:
            view: the stored view.
            size_px: side of the conditioning images.
            resize: filter of the resizing.

        Raises:
            DatasetError: the view is corrupt; shard and row are named.
        """

    @abstractmethod
    def batch(self, samples: Sequence[S], split: str, step: int, places: Sequence[int]) -> Batch:
        """Return a batch of samples, with all random draws.

        Args:
            samples: this process's samples of the step.
            split: ``train`` or ``val``.
            step: counted from 0.
            places: index of each sample among all of the step. Its draws depend on seed, split,
                step and this index.
        """

    @abstractmethod
    def losses(self, network: N) -> nn.Module:
        """Return a module that computes the losses (B, G) of ``Batch.inputs``."""

    @abstractmethod
    def statistics(self, sources: Sequence[ViewSource[Any]]) -> tuple[Tensor, ...]:
        """Return the statistics that normalise the data, computed from views of all sources.

        Returns:
            (...), the tensors that ``set_statistics`` of the network takes.
        """

    @abstractmethod
    def load_decoder(self, name: str | None, latents: Dataset, device: str) -> nn.Module | None:
        """Return the decoder of sampled scenes; None if none is needed or known.

        Args:
            name: of the decoder. None: the one that belongs to the latents' encoder, if known.
            latents: the training data.
            device: torch device of the decoder.
        """

    @abstractmethod
    def scorer(self, decoder: nn.Module | None) -> Scorer[N, S] | None:
        """Return the function that scores sampled views; None if it needs a missing decoder."""


def views_of_each(sources: Sequence[ViewSource[Any]]) -> int:
    """Return the number of views of each source that statistics are computed from."""
    return STATISTICS_VIEWS // len(sources)
