"""What an objective is: everything about a training that depends on the kind of model.

The loader, the trainer and its state know this class alone. ``objective_of`` chooses one by the
name of the model.
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
"""Views of all sources that latents are normalised by: 65 million numbers a channel."""


@dataclass(frozen=True)
class Scores:
    """How well held-out views are sampled."""

    values: dict[str, float]
    """By their names in the log."""
    images: tuple[Path, ...] = ()
    """What was drawn of them."""


Scorer = Callable[[N, Sequence[S], Path, int], Scores]
"""Samples held-out views with a network; draws into a folder, under the number of the step."""


@dataclass(frozen=True)
class Objective(ABC, Generic[S, N]):
    """One kind of model with its data, losses and scores, for one training. Picklable.

    Raises:
        ConfigError: ``config`` asks for what this kind of model cannot do.
    """

    config: TrainConfig
    """All settings."""
    size: Mapping[str, Any] = field(repr=False)
    """The network's own arguments: those of a published size, or any others."""

    sizes: ClassVar[Mapping[Any, Mapping[str, Any]]]
    """The published sizes: the models that ``--model`` names, with their arguments."""
    table: ClassVar[Table]
    """The dataset that the model is written as."""
    stored: ClassVar[str]
    """The word of ``encode --store`` that makes what is trained on."""
    source: ClassVar[type[ViewSource[Any]]]
    """Reads it."""
    loss_parts: ClassVar[Mapping[str, int | slice]]
    """Which of a view's losses are also logged on their own, by name."""

    @property
    def image_size_px(self) -> int:
        """Side of the images that the network's own encoder takes."""
        return int(self.size["image_encoder"]["size_px"])

    @abstractmethod
    def network_args(self, sources: Sequence[ViewSource[Any]]) -> dict[str, Any]:
        """Return the arguments that a network for these data is built with; its file holds them."""

    @abstractmethod
    def build_network(self, args: dict[str, Any], image_encoder: DinoV2 | None = None) -> N:
        """Return the network as it is before the first step.

        Args:
            args: as ``network_args`` returns them.
            image_encoder: the frozen one, loaded, if ``config`` names one.

        Raises:
            ConfigError: the network cannot take this encoder's tokens.
        """

    @abstractmethod
    def decode(self, view: RawView[Any], size_px: int, resize: Resizing) -> S:
        """Return the sample of a view, with images of side ``size_px``.

        Raises:
            DatasetError: the view is corrupt; shard and row are named.
        """

    @abstractmethod
    def batch(self, samples: Sequence[S], split: str, step: int, places: Sequence[int]) -> Batch:
        """Return samples as one batch, with all that is random about them.

        Args:
            samples: of this process.
            split: ``train`` or ``val``: their draws differ.
            step: counted from 0.
            places: of each sample among all of the step; its draws depend on split, step and place.
        """

    @abstractmethod
    def losses(self, network: N) -> nn.Module:
        """Return a module that makes the losses (B, G) of ``Batch.inputs``."""

    @abstractmethod
    def statistics(self, sources: Sequence[ViewSource[Any]]) -> tuple[Tensor, ...]:
        """Return what ``set_statistics`` of the network takes, from some views of all sources."""

    @abstractmethod
    def load_decoder(self, name: str | None, latents: Dataset, device: str) -> nn.Module | None:
        """Return the decoder that shows what is sampled; None if none is known or needed.

        Args:
            name: the wanted one. None: the one that the latents are known to be for.
            latents: what is trained on.
            device: where it runs.
        """

    @abstractmethod
    def scorer(self, decoder: nn.Module | None) -> Scorer[N, S] | None:
        """Return what scores sampled views; None if that needs a decoder and there is none."""


def views_of_each(sources: Sequence[ViewSource[Any]]) -> int:
    """Return how many views of each source the statistics are taken from."""
    return STATISTICS_VIEWS // len(sources)
