"""``datagen train``: trains the flow transformer with scene-context attention on the latents."""

import hashlib
import logging
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datagen.core.fields import content, how
from datagen.engine.provenance import provenance
from datagen.engine.stage import Inputs, Stage
from datagen.errors import ConfigError, DatasetError
from datagen.executors.job import Executor
from datagen.models.devices import torch_device, torch_threads
from datagen.models.dinov2 import DinoV2, load_dinov2
from datagen.models.initial_weights import initial_files
from datagen.models.named_checkpoints import resolve_checkpoint
from datagen.shards import Dataset, Folder, Output, open_dataset
from datagen.shards.declared import LATENTS, MODEL, RENDERS
from datagen.shards.splits import validation_layouts
from datagen.shards.tables import Table
from datagen.stages.encode import check_stored
from datagen.training.checkpoints import Checkpoints
from datagen.training.config import TrainConfig
from datagen.training.data.image_tokens import INPUT as IMAGE_ENCODER
from datagen.training.data.loader import SceneLoader, StreamConfig
from datagen.training.data.sources import ViewSource
from datagen.training.distributed import Ranks, is_distributed
from datagen.training.objectives.choose import objective_of
from datagen.training.objectives.objective import Objective
from datagen.training.process_logs import log_file, logged_to
from datagen.training.trainer import train_flow

logger = logging.getLogger(__name__)

MODEL_FILES = ("model.json", "model.safetensors")
LOGS = "logs"
BEST_FILES = ("best.json", "best.safetensors")


@dataclass(frozen=True, kw_only=True)
class TrainFlow(Stage):
    """Train the image-conditioned flow model, or resume its interrupted training.

    On one CPU, the same number of threads gives the same weights. Other machines give other
    weights.
    """

    name: ClassVar[str] = "train"
    table: ClassVar[Table] = MODEL
    revision: ClassVar[int] = 4
    reads: ClassVar[tuple[Table, ...]] = (RENDERS, LATENTS)
    uses_gpu: ClassVar[bool] = True

    config: TrainConfig = field(default_factory=TrainConfig)
    """The network and its training."""
    val_fraction: float = 0.05
    """Share of the scenes held out for validation. Above 0, at least one scene is held out."""
    also: tuple[str, ...] = content(lambda stage: stage._fingerprints_of_others(), ())
    """Other workspaces to train on too. Their content, not their place, is part of the model's
    identity."""
    mix_weights: tuple[float, ...] = ()
    """Sampling weights of this workspace and then of each of --also. By default all workspaces
    have the same weight."""
    loader_workers: int = how(0)
    """Processes that read and decode samples in advance. 0: the training process reads them, which
    is best if the data fits into the cache."""
    init: str | None = content(lambda stage: stage._fingerprint_of_init(), None)
    """Initial weights: ``small`` (embedded in datagen); a path without suffix (NAME for NAME.json
    and NAME.safetensors) or a Hugging Face id of a trained model or TRELLIS's flow model; a .pt
    file; or I-Scene's package. Their content is part of the model's identity."""
    decoder: str | None = how(None)
    """Decoder that shows sampled scenes during training. By default ``small``, if the latents were
    made by the small encoder."""
    cache_gib: float = how(2.0)
    """Total memory for decoded samples in GiB. What does not fit is decoded again each time."""

    def __post_init__(self) -> None:
        objective_of(self.config)  # raises if the model does not support these settings
        if not 0 <= self.val_fraction < 1:
            raise ConfigError(f"val_fraction must lie in [0, 1), got {self.val_fraction}.")
        if self.loader_workers < 0 or self.cache_gib < 0:
            raise ConfigError(
                f"loader_workers and cache_gib must be at least 0, "
                f"got {self.loader_workers} and {self.cache_gib}."
            )
        if self.mix_weights and len(self.mix_weights) != 1 + len(self.also):
            raise ConfigError(
                f"mix_weights: got {len(self.mix_weights)} for this workspace and "
                f"{len(self.also)} in --also. Expected one per workspace, this one first."
            )

    @property
    def objective(self) -> Objective[Any, Any]:
        """The training objective of ``config.model``."""
        return objective_of(self.config)

    @property
    def first_weights(self) -> str | None:
        """Path or Hugging Face id of the initial weights; None for random weights."""
        return None if self.init is None else resolve_checkpoint(self.init, "model")

    def _fingerprint_of_init(self) -> str | None:
        first = self.first_weights
        return None if first is None else sha256_of(initial_files(first)[0])

    def _fingerprints_of_others(self) -> dict[str, str]:
        pairs = [self._open_pair(root) for root in self.also]
        return {f"also_{i}": latents.fingerprint for i, (latents, _) in enumerate(pairs)}

    def check(self, inputs: Inputs) -> None:
        """Check that the initial weights and the other workspaces fit the latents.

        Raises:
            ConfigError: the embedded weights belong to another encoder.
            DatasetError: another workspace has no latents, or latents of another kind.
        """
        latents = inputs["latents"]
        for read in (latents, *(other for other, _ in self._others(inputs))):
            check_stored(read, self.objective.stored, self.name)
        encoder = latents.fields.get("encoder")
        if self.init == "small" and (self.config.model, encoder) != ("small", "small"):
            raise ConfigError(
                f"--init small: {latents.folder} was encoded by {encoder!r}, and --model is "
                f"{self.config.model}. Expected latents of the small encoder and --model small; "
                "leave --init out, or encode again."
            )

    def make(self, inputs: Inputs, output: Output, executor: Executor) -> Dataset:
        """Train to the end, resuming from the last state if there is one, and seal the folder."""
        started = time.monotonic()
        folder = output.folder.path
        output.begin()
        executor.train(TrainJob(self, inputs, folder))
        Checkpoints(folder, 1).delete()
        seconds = time.monotonic() - started
        files = {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in (*MODEL_FILES, *BEST_FILES)
            if (folder / name).is_file()
        }
        sources, held_out = self.sources(inputs)
        counts = {
            "steps": self.config.max_steps,
            "training_views": sum(len(source) for source in sources),
            "validation_views": min(self.config.val_views, len(held_out)),
        }
        made_by = provenance(seconds, executor.describe())
        return output.seal({"counts": counts, "files": files, "provenance": made_by})

    def sources(self, inputs: Inputs) -> tuple[list[ViewSource[Any]], ViewSource[Any]]:
        """Return the training views of every workspace, and the held-out views of this one.

        Raises:
            DatasetError: a workspace does not store what the objective reads.
        """
        pairs = [(inputs["latents"], inputs["renders"]), *self._others(inputs)]
        split = [self._split(self.objective.source.open(*pair)) for pair in pairs]
        return [training for training, _ in split], split[0][1]

    def has_tokens(self, inputs: Inputs, encoder: DinoV2) -> bool:
        """Return whether every workspace stores image tokens of this encoder.

        Logs a warning if some workspace stores tokens of another encoder.
        """
        pairs = [(inputs["latents"], inputs["renders"]), *self._others(inputs)]
        made_by = {latents.manifest["inputs"].get(IMAGE_ENCODER) for latents, _ in pairs}
        if made_by == {None}:
            return False
        if made_by == {encoder.fingerprint()}:
            return True
        logger.warning(
            "train: stored image tokens are of another encoder, or not in every workspace; the "
            "image encoder runs during training instead"
        )
        return False

    def output(self, root: Folder, inputs: Inputs) -> Output:
        """Return the folder of the trained model. Each objective has its own folder."""
        table = self.objective.table
        return Output(
            root / table.folder, self.identity(inputs), table.schema, units_per_shard=1000
        )

    def _split(self, source: ViewSource[Any]) -> tuple[ViewSource[Any], ViewSource[Any]]:
        """Return the views of the training scenes and those of the held-out ones."""
        layouts = validation_layouts(source.layout_id.tolist(), self.val_fraction)
        is_held_out = np.isin(source.layout_id, sorted(layouts))
        return source.select(~is_held_out), source.select(is_held_out)

    def _open_pair(self, root: str) -> tuple[Dataset, Dataset]:
        """Return the latents and renders of a workspace."""
        folder = Folder.at(root)
        return open_dataset(folder / "latents"), open_dataset(folder / "renders")

    def _others(self, inputs: Inputs) -> list[tuple[Dataset, Dataset]]:
        """Return the latents and renders of the other workspaces.

        Raises:
            DatasetError: a dataset is missing, or its latents differ in kind from this one's.
        """
        own = inputs["latents"]
        pairs = []
        for root in self.also:
            latents, renders = self._open_pair(root)
            for what, ours, theirs in (
                ("encoder", own.manifest["inputs"], latents.manifest["inputs"]),
                ("view_frame", own.fields, latents.fields),
                ("feature_encoder", own.fields, latents.fields),
                ("slat_encoder", own.manifest["inputs"], latents.manifest["inputs"]),
            ):
                if ours.get(what) != theirs.get(what):
                    raise DatasetError(
                        f"{latents.folder} has {what} {theirs.get(what)}, and {own.folder} has "
                        f"{ours.get(what)}. Expected the same in both; encode one of them again."
                    )
            pairs.append((latents, renders))
        return pairs


@dataclass(frozen=True)
class TrainJob:
    """The training that each process runs. Picklable."""

    stage: TrainFlow
    inputs: Inputs
    folder: Path
    """Folder of the training state, on a disk that all processes share."""

    @property
    def divides(self) -> int:
        """Views per step; the number of processes must divide it."""
        return self.stage.config.batch_size

    @property
    def log(self) -> Path:
        """Log file of the first process, if there are several."""
        return log_file(self.folder / LOGS, 0)

    def __call__(self, device: str, threads: int) -> None:
        """Train as the only process, or as one process of ``torch.distributed``."""
        ranks = Ranks.current()
        with logged_to(self.folder / LOGS, ranks) if is_distributed() else nullcontext():
            self._train(ranks, str(torch_device(device)), threads)

    def _train(self, ranks: Ranks, device: str, threads: int) -> None:
        stage, objective = self.stage, self.stage.objective
        sources, held_out = stage.sources(self.inputs)
        name = stage.config.image_encoder
        encoder = None if name is None else load_dinov2(name, device)
        if encoder is not None and stage.has_tokens(self.inputs, encoder):
            logger.info("train: reading the stored image tokens")
            held_out = replace(held_out, use_tokens=True)
            sources = [replace(source, use_tokens=True) for source in sources]
        stream = StreamConfig(
            size_px=encoder.size_px if encoder else objective.image_size_px,
            resize="lanczos4" if encoder else "smooth",
            seed=stage.config.seed,
            weights=stage.mix_weights,
        )
        loader = SceneLoader(
            sources,
            stream,
            objective.decode,
            rank=ranks.rank,
            world=ranks.world,
            num_workers=stage.loader_workers,
            cache_bytes=int(stage.cache_gib * 2**30) // max(stage.loader_workers, 1),
        )
        count = min(stage.config.val_views, len(held_out))
        unmixed = replace(stream, weights=())
        val_samples = []
        if count:
            val_samples = list(SceneLoader([held_out], unmixed, objective.decode, stop=count))
        with torch_threads(threads):
            train_flow(
                loader,
                val_samples,
                objective,
                self.folder,
                device=device,
                init=stage.first_weights,
                image_encoder=encoder,
                decoder=objective.load_decoder(stage.decoder, self.inputs["latents"], device),
            )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, which may be large."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
