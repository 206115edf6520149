"""``datagen infer``: scenes sampled from views by the trained model."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.core.seeding import rng_for, seed_for
from datagen.errors import ConfigError, StageError
from datagen.models import SceneModel, load_model
from datagen.sampling.previews import write_preview
from datagen.sampling.scenes import SamplerConfig, sample_scene
from datagen.sampling.surfaces import (
    instance_name,
    surface_from_logits,
    write_instance_glbs,
    write_scene_glb,
)
from datagen.shards import Dataset, Identity, Row
from datagen.shards.schemas import PREDICTIONS
from datagen.stages.checkpoints import (
    checkpoint_fingerprint,
    load_autoencoder,
    torch_device,
    torch_threads,
)
from datagen.stages.splits import validation_layouts
from datagen.stages.stage import Inputs, Process, Stage, WorkerContext
from datagen.training.samples import decode_view
from datagen.views.conditioning import condition_images
from datagen.voxels import unpack_occupancy


@dataclass(frozen=True, kw_only=True)
class InferScenes(Stage):
    """Sample a scene from one rendered view and its masks: a GLB with a node an instance."""

    name: ClassVar[str] = "infer"
    folder: ClassVar[str] = "predictions"
    revision: ClassVar[int] = 1
    schema = PREDICTIONS
    reads: ClassVar[tuple[str, ...]] = ("renders", "latents", "model")

    split: Literal["val", "train", "all"] = "val"
    """Whose views: held-out scenes, scenes trained on, or held-out ones and then the others."""
    max_scenes: int = 16
    """At most so many scenes."""
    views_per_scene: int = 1
    """Kept views of each."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """The sampler."""
    decoder: str = "small"
    """The decoder that belongs to the encoder of the latents."""
    scenes_per_shard: int = 8
    """Scenes a shard."""
    seed: int = 0
    """Of the choice of views and of the noise."""

    def __post_init__(self) -> None:
        for name in ("max_scenes", "views_per_scene", "scenes_per_shard"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.sampler.steps < 1:
            raise ConfigError(f"steps must be at least 1, got {self.sampler.steps}.")

    def identity(self, inputs: Inputs) -> Identity:
        """The decoder is known by its weights."""
        identity = super().identity(inputs)
        decoder = checkpoint_fingerprint(self.decoder, "decoder")
        return replace(identity, inputs={**identity.inputs, "decoder": decoder})

    def units(self, inputs: Inputs) -> Sequence[int]:
        layouts = inputs["latents"].units()
        held_out = validation_layouts(layouts, inputs["model"].fields["val_fraction"])
        groups = {
            "val": sorted(held_out),
            "train": [layout_id for layout_id in layouts if layout_id not in held_out],
        }
        chosen = groups["val"] + groups["train"] if self.split == "all" else groups[self.split]
        if not chosen:
            raise StageError(
                f"infer: split {self.split!r} has no scenes among the {len(layouts)} with latents. "
                "Expected at least one; give --split train or all, or train with --val-fraction."
            )
        return sorted(chosen[: self.max_scenes])

    @contextmanager
    def open(self, inputs: Inputs, context: WorkerContext) -> Iterator[Process]:
        device = torch_device(context.device)
        model = read_scene_model(inputs["model"], device)
        decoder = load_autoencoder(self.decoder, "decoder", device)
        held_out = validation_layouts(
            inputs["latents"].units(), inputs["model"].fields["val_fraction"]
        )

        def process(layout_id: int) -> list[Row]:
            rows = []
            for latent, render in self.views(inputs, layout_id):
                view_index = render["view_index"]
                started = time.monotonic()
                logits = self.sample(model, decoder, layout_id, render, latent["num_instances"])
                folder = context.folder.path / f"{layout_id}_{view_index}"
                rgba, _ = decode_view(render)
                row: Row = {
                    "layout_id": layout_id,
                    "view_index": view_index,
                    "split": "val" if layout_id in held_out else "train",
                    "num_instances": latent["num_instances"],
                    "path": folder.name,
                }
                truth = unpack_occupancy(latent["occupancy"].tobytes())
                write_prediction(folder, logits, rgba, truth[1:], row)
                rows.append({**row, "seconds": time.monotonic() - started})
            return rows

        with torch_threads(context.threads):
            yield process

    def views(self, inputs: Inputs, layout_id: int) -> list[tuple[Row, Row]]:
        """Return the latents and renders rows of the views that are sampled of a scene."""
        latents = {row["view_index"]: row for row in inputs["latents"].rows_of(layout_id)}
        rng = rng_for(self.seed, self.name, layout_id)
        count = min(self.views_per_scene, len(latents))
        chosen = sorted(rng.permutation(sorted(latents))[:count].tolist())
        columns = ["view_index", "rgb", "instance_map"]
        renders = {row["view_index"]: row for row in inputs["renders"].rows_of(layout_id, columns)}
        return [(latents[index], renders[index]) for index in chosen]

    def sample(
        self,
        model: SceneModel,
        decoder: torch.nn.Module,
        layout_id: int,
        render: Row,
        num_instances: int,
    ) -> NDArray[np.float32]:
        """Return the logits (N + 1, 64, 64, 64) sampled from one view."""
        rgba, instance_map = decode_view(render)
        size_px = model.conditioner.size_px
        scene_image, instance_images = condition_images(rgba, instance_map, num_instances, size_px)
        seed = seed_for(self.seed, self.name, layout_id, render["view_index"])
        return sample_scene(model, decoder, scene_image, instance_images, self.sampler, seed)


def read_scene_model(model: Dataset, device: torch.device) -> SceneModel:
    """Load a workspace's trained model."""
    loaded = load_model(model.folder.path / "model", device=device)
    if not isinstance(loaded, SceneModel):
        raise StageError(
            f"{model.folder} holds a {type(loaded).__name__}, expected a SceneModel as "
            "`datagen train` writes it. Use another --root."
        )
    return loaded.eval()


def write_prediction(
    folder: Path,
    logits: NDArray[np.float32],
    rgba: NDArray[np.uint8],
    true_instances: NDArray[np.bool_],
    row: Row,
) -> None:
    """Write one sampled scene: GLBs, occupancy, preview, and ``meta.json`` last."""
    folder.mkdir(parents=True, exist_ok=True)
    surfaces = {index: surface_from_logits(grid) for index, grid in enumerate(logits[1:])}
    empty = write_scene_glb(folder / "scene.glb", surfaces)
    write_instance_glbs(folder, surfaces)
    occupied = logits > 0
    np.savez_compressed(folder / "occupancy.npz", scene=occupied[0], instances=occupied[1:])
    write_preview(folder / "preview.png", rgba, occupied[1:], true_instances)
    meta = {**row, "instances": [instance_name(i) for i in surfaces], "empty_instances": empty}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
