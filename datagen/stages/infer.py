"""``datagen infer``: samples scenes from rendered views with the trained model."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from datagen.core.seeding import rng_for, seed_for
from datagen.engine.stage import Inputs
from datagen.engine.units import Process, WorkerContext
from datagen.errors import ConfigError, StageError
from datagen.sampling.networks import Networks
from datagen.sampling.predictions import write_prediction
from datagen.shards import Row
from datagen.shards.declared import LATENTS, MODEL, PREDICTIONS, RENDERS
from datagen.shards.splits import validation_layouts
from datagen.shards.tables import Table
from datagen.stages.encode import check_stored
from datagen.stages.sampling import SamplingStage
from datagen.views.passes import decode_view
from datagen.voxels import unpack_occupancy


@dataclass(frozen=True, kw_only=True)
class InferScenes(SamplingStage):
    """Sample a scene from one rendered view and its masks: a GLB file with one node per instance.

    With --image and --masks, scenes are sampled from image files instead.
    """

    name: ClassVar[str] = "infer"
    table: ClassVar[Table] = PREDICTIONS
    revision: ClassVar[int] = 3
    reads: ClassVar[tuple[Table, ...]] = (RENDERS, LATENTS, MODEL)

    split: Literal["val", "train", "all"] = "val"
    """Scenes to use: val are the held-out scenes, train the training scenes, all first the held-out
    and then the training scenes. With --model, all scenes count as held out."""
    max_scenes: int = 16
    """Maximum number of scenes."""
    views_per_scene: int = 1
    """Kept views per scene."""
    seed: int = 0
    """Random seed of the choice of views and of the noise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_scenes", "views_per_scene"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")

    def units(self, inputs: Inputs) -> Sequence[int]:
        check_stored(inputs["latents"], "occupancy", self.name)
        layouts = inputs["latents"].units()
        held_out = self.held_out(inputs)
        groups = {
            "val": sorted(held_out),
            "train": [layout_id for layout_id in layouts if layout_id not in held_out],
        }
        chosen = groups["val"] + groups["train"] if self.split == "all" else groups[self.split]
        if not chosen:
            raise StageError(
                f"infer: split {self.split!r} has no scenes among the {len(layouts)} with latents. "
                "Expected at least one; use --split train or all, or train with --val-fraction."
            )
        return sorted(chosen[: self.max_scenes])

    def held_out(self, inputs: Inputs) -> set[int]:
        """Return the ids of the scenes that the model was not trained on."""
        layouts = inputs["latents"].units()
        if self.model is not None:
            return set(layouts)
        return validation_layouts(layouts, inputs["model"].fields["val_fraction"])

    @contextmanager
    def open(self, inputs: Inputs, context: WorkerContext) -> Iterator[Process]:
        held_out = self.held_out(inputs)

        with self.networks(inputs, context) as networks:

            def process(layout_id: int) -> list[Row]:
                rows = []
                for latent, render in self.views(inputs, layout_id):
                    view_index = render["view_index"]
                    started = time.monotonic()
                    pixels, count = decode_view(render), latent["num_instances"]
                    seed = self.seed_of(layout_id, view_index)
                    predicted = self.predict(networks, *pixels, count, seed)
                    folder = context.folder.path / f"{layout_id}_{view_index}"
                    row: Row = {
                        "layout_id": layout_id,
                        "view_index": view_index,
                        "split": "val" if layout_id in held_out else "train",
                        "num_instances": latent["num_instances"],
                        "path": folder.name,
                    }
                    truth = unpack_occupancy(latent["occupancy"].tobytes())
                    write_prediction(folder, predicted, *pixels, truth[1:], row, networks.blender)
                    rows.append({**row, "seconds": time.monotonic() - started})
                return rows

            yield process

    def views(self, inputs: Inputs, layout_id: int) -> list[tuple[Row, Row]]:
        """Return the views of a scene to sample from: pairs of a latents row and a renders row."""
        latents = {row["view_index"]: row for row in inputs["latents"].rows_of(layout_id)}
        rng = rng_for(self.seed, self.name, layout_id)
        count = min(self.views_per_scene, len(latents))
        chosen = sorted(rng.permutation(sorted(latents))[:count].tolist())
        columns = ["view_index", "rgb", "instance_map"]
        renders = {row["view_index"]: row for row in inputs["renders"].rows_of(layout_id, columns)}
        return [(latents[index], renders[index]) for index in chosen]

    def sample(
        self, networks: Networks, layout_id: int, render: Row, num_instances: int
    ) -> NDArray[np.float32]:
        """Return the occupancy logits sampled from one view: (N + 1, 64, 64, 64), scene first."""
        seed = self.seed_of(layout_id, render["view_index"])
        return self.logits(networks, *decode_view(render), num_instances, seed)

    def seed_of(self, layout_id: int, view_index: int) -> int:
        """Return the random seed of a view's noise."""
        return seed_for(self.seed, self.name, layout_id, view_index)
