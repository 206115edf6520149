"""``datagen train``: the flow transformer with scene-context attention, on the latents."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import pyarrow as pa

from datagen.errors import ConfigError
from datagen.executors.job import Executor
from datagen.executors.local import available_cores
from datagen.models import MODEL_ARGS
from datagen.shards import Dataset, Output, Row
from datagen.stages.checkpoints import torch_device, torch_threads
from datagen.stages.provenance import provenance
from datagen.stages.splits import validation_layouts
from datagen.stages.stage import Inputs, Stage
from datagen.training.samples import SceneSample, read_samples
from datagen.training.trainer import TrainConfig, train_flow

MODEL_FILES = ("model.json", "model.safetensors")


@dataclass(frozen=True, kw_only=True)
class TrainFlow(Stage):
    """Train the image-conditioned flow model; goes on from its own last state.

    On a CPU the same number of threads gives the same weights; another machine gives others.
    """

    name: ClassVar[str] = "train"
    folder: ClassVar[str] = "model"
    revision: ClassVar[int] = 1
    schema: ClassVar[pa.Schema] = pa.schema([])
    reads: ClassVar[tuple[str, ...]] = ("renders", "latents")
    uses_gpu: ClassVar[bool] = True

    config: TrainConfig = field(default_factory=TrainConfig)
    """The network and how it is trained."""
    val_fraction: float = 0.05
    """Share of the scenes held out for validation; at least one scene if above 0."""

    def __post_init__(self) -> None:
        if not 0 <= self.val_fraction < 1:
            raise ConfigError(f"val_fraction must lie in [0, 1), got {self.val_fraction}.")
        if self.config.max_steps < 1 or self.config.batch_size < 1:
            raise ConfigError(
                f"max_steps and batch_size must be at least 1, "
                f"got {self.config.max_steps} and {self.config.batch_size}."
            )

    def units(self, inputs: Inputs) -> list[int]:
        return inputs["latents"].units()

    def _make(self, output: Output, inputs: Inputs, executor: Executor) -> Dataset:
        started = time.monotonic()
        folder = output.folder.path
        output.begin()
        device = torch_device(getattr(executor, "device", "auto"))
        samples, held_out = self._samples(inputs)
        with torch_threads(available_cores()):
            train_flow(samples, held_out, self.config, folder, device=str(device))
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        seconds = time.monotonic() - started
        files = {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in MODEL_FILES
        }
        counts = {
            "steps": self.config.max_steps,
            "training_views": len(samples),
            "validation_views": len(held_out),
        }
        made_by = provenance(seconds, executor.describe())
        return output.seal({"counts": counts, "files": files, "provenance": made_by})

    def _samples(self, inputs: Inputs) -> tuple[list[SceneSample], list[SceneSample]]:
        layouts = inputs["latents"].units()
        held_out = validation_layouts(layouts, self.val_fraction)
        size_px = MODEL_ARGS[self.config.model]["image_encoder"]["size_px"]
        samples = read_samples(inputs["latents"].rows(), kept_views(inputs["renders"]), size_px)
        return (
            [sample for sample in samples if sample.layout_id not in held_out],
            [sample for sample in samples if sample.layout_id in held_out],
        )


def kept_views(renders: Dataset) -> Iterator[Row]:
    """Iterate over the kept views with what conditioning needs of them."""
    columns = ["layout_id", "view_index", "kept", "rgb", "instance_map"]
    return (row for row in renders.rows(columns) if row["kept"])
