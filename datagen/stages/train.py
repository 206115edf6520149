"""``datagen train``: the flow transformer with scene-context attention, on the latents."""

import hashlib
import time
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa

from datagen.errors import ConfigError, DatasetError
from datagen.executors.job import Executor
from datagen.executors.local import available_cores
from datagen.models import MODEL_ARGS
from datagen.shards import Dataset, Folder, Identity, Output, open_dataset
from datagen.stages.checkpoints import torch_device, torch_threads
from datagen.stages.provenance import provenance
from datagen.stages.splits import validation_layouts
from datagen.stages.stage import Inputs, Stage
from datagen.training.loader import SceneLoader, StreamConfig
from datagen.training.samples import SceneSample
from datagen.training.sources import SceneSource, open_source
from datagen.training.trainer import VALIDATION_BATCHES, TrainConfig, train_flow

MODEL_FILES = ("model.json", "model.safetensors")


@dataclass(frozen=True, kw_only=True)
class TrainFlow(Stage):
    """Train the image-conditioned flow model; goes on from its own last state.

    On a CPU the same number of threads gives the same weights; another machine gives others.
    """

    name: ClassVar[str] = "train"
    folder: ClassVar[str] = "model"
    revision: ClassVar[int] = 2
    schema: ClassVar[pa.Schema] = pa.schema([])
    reads: ClassVar[tuple[str, ...]] = ("renders", "latents")
    uses_gpu: ClassVar[bool] = True

    config: TrainConfig = field(default_factory=TrainConfig)
    """The network and how it is trained."""
    val_fraction: float = 0.05
    """Share of the scenes held out for validation; at least one scene if above 0."""
    also: tuple[str, ...] = field(default=(), metadata={"identity": False})
    """Workspaces whose latents are mixed in: known by their content, wherever they lie."""
    mix_weights: tuple[float, ...] = ()
    """How often the own workspace, then each of ``also``, is met; none: all alike."""
    loader_workers: int = field(default=0, metadata={"identity": False})
    """Processes that read and decode samples ahead; 0: none, as suits data that the cache holds."""
    cache_gib: float = field(default=2.0, metadata={"identity": False})
    """Memory for decoded samples, in all; what does not fit is decoded every time."""

    def __post_init__(self) -> None:
        if not 0 <= self.val_fraction < 1:
            raise ConfigError(f"val_fraction must lie in [0, 1), got {self.val_fraction}.")
        if self.config.max_steps < 1 or self.config.batch_size < 1:
            raise ConfigError(
                f"max_steps and batch_size must be at least 1, "
                f"got {self.config.max_steps} and {self.config.batch_size}."
            )
        if self.loader_workers < 0 or self.cache_gib < 0:
            raise ConfigError(
                f"loader_workers and cache_gib must be at least 0, "
                f"got {self.loader_workers} and {self.cache_gib}."
            )
        if self.mix_weights and len(self.mix_weights) != 1 + len(self.also):
            raise ConfigError(
                f"mix_weights: got {len(self.mix_weights)} for this workspace and "
                f"{len(self.also)} in --also. Expected one for each of them, this one first."
            )

    def identity(self, inputs: Inputs) -> Identity:
        """The workspaces mixed in are known by their latents."""
        identity = super().identity(inputs)
        others = {f"also_{i}": pair[0].fingerprint for i, pair in enumerate(self._others(inputs))}
        return replace(identity, inputs={**identity.inputs, **others})

    def units(self, inputs: Inputs) -> list[int]:
        """One model is one unit; it is made by ``_make``."""
        return [0]

    def _make(self, output: Output, inputs: Inputs, executor: Executor) -> Dataset:
        started = time.monotonic()
        folder = output.folder.path
        output.begin()
        device = torch_device(getattr(executor, "device", "auto"))
        loader, held_out = self._samples(inputs)
        with torch_threads(available_cores()):
            train_flow(loader, held_out, self.config, folder, device=str(device))
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        seconds = time.monotonic() - started
        files = {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in MODEL_FILES
        }
        counts = {
            "steps": self.config.max_steps,
            "training_views": loader.num_views,
            "validation_views": len(held_out),
        }
        made_by = provenance(seconds, executor.describe())
        return output.seal({"counts": counts, "files": files, "provenance": made_by})

    def _samples(self, inputs: Inputs) -> tuple[SceneLoader, list[SceneSample]]:
        """Return the loader of training views, and views enough for a validation loss."""
        pairs = [(inputs["latents"], inputs["renders"]), *self._others(inputs)]
        sources, held_out = zip(*(self._split(open_source(*pair)) for pair in pairs), strict=True)
        config = StreamConfig(
            size_px=MODEL_ARGS[self.config.model]["image_encoder"]["size_px"],
            seed=self.config.seed,
            weights=self.mix_weights,
        )
        loader = SceneLoader(
            sources,
            config,
            num_workers=self.loader_workers,
            cache_bytes=int(self.cache_gib * 2**30) // max(self.loader_workers, 1),
        )
        count = min(VALIDATION_BATCHES * self.config.batch_size, len(held_out[0]))
        if not count:
            return loader, []
        return loader, list(SceneLoader(held_out[:1], replace(config, weights=()), stop=count))

    def _split(self, source: SceneSource) -> tuple[SceneSource, SceneSource]:
        """Return the views of the training scenes and those of the held-out ones."""
        layouts = validation_layouts(source.layout_id.tolist(), self.val_fraction)
        is_held_out = np.isin(source.layout_id, sorted(layouts))
        return source.select(~is_held_out), source.select(is_held_out)

    def _others(self, inputs: Inputs) -> list[tuple[Dataset, Dataset]]:
        """Open latents and renders of the workspaces mixed in.

        Raises:
            DatasetError: one is missing, or its latents mean something else than the own ones.
        """
        own = inputs["latents"]
        pairs = []
        for root in self.also:
            latents, renders = (open_dataset(Folder.at(root) / name) for name in self.reads[::-1])
            for what, ours, theirs in (
                ("encoder", own.manifest["inputs"], latents.manifest["inputs"]),
                ("view_frame", own.fields, latents.fields),
            ):
                if ours.get(what) != theirs.get(what):
                    raise DatasetError(
                        f"{latents.folder}: has {what} {theirs.get(what)}, and {own.folder} has "
                        f"{ours.get(what)}. Expected latents of one kind; encode one of them again."
                    )
            pairs.append((latents, renders))
        return pairs
