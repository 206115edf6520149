"""``datagen evaluate``: sampled scenes against the truth, beside two baselines."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.core.frames import transform_points
from datagen.errors import ConfigError
from datagen.evaluation.constant import fit_constant
from datagen.evaluation.points import POINTS_PER_OBJECT
from datagen.evaluation.scene import WHOLE_SCENE, SceneGeometry, score_scene
from datagen.models import build_model
from datagen.sampling.scenes import SamplerConfig
from datagen.sampling.surfaces import (
    read_scene_glb,
    surface_from_logits,
    surface_from_occupancy,
)
from datagen.shards import Dataset, Output, Row
from datagen.shards.schemas import SCORES
from datagen.stages.checkpoints import load_autoencoder, torch_device, torch_threads
from datagen.stages.encode import check_stored
from datagen.stages.infer import InferScenes
from datagen.stages.sampling import Networks, read_scene_model
from datagen.stages.scenes import SceneReader
from datagen.stages.splits import validation_layouts
from datagen.stages.stage import Inputs, Process, Stage, WorkerContext
from datagen.voxels import unpack_occupancy

METRICS = ("voxel_iou", "box_iou", "cd_sq_sum", "cd_l2_mean", "f_score_010", "f_score_005")
MAX_CONSTANT_VIEWS = 1000


@dataclass(frozen=True, kw_only=True)
class EvaluateScenes(Stage):
    """Score every sampled scene, whole and object by object, in the view's canonical frame.

    Beside the model stand two baselines, scored alike: the same network before its first training
    step (``untrained``) and the best constant grid (``constant``).
    """

    name: ClassVar[str] = "evaluate"
    folder: ClassVar[str] = "scores"
    revision: ClassVar[int] = 1
    schema = SCORES
    reads: ClassVar[tuple[str, ...]] = (
        "assets",
        "layouts",
        "renders",
        "latents",
        "model",
        "predictions",
    )

    points_per_object: int = POINTS_PER_OBJECT
    """Surface samples an object."""
    scenes_per_shard: int = 8
    """Scenes a shard."""
    seed: int = 0
    """Of the surface samples."""

    def __post_init__(self) -> None:
        if self.points_per_object < 1 or self.scenes_per_shard < 1:
            raise ConfigError(
                f"points_per_object and scenes_per_shard must be at least 1, "
                f"got {self.points_per_object} and {self.scenes_per_shard}."
            )

    def units(self, inputs: Inputs) -> Sequence[int]:
        check_stored(inputs["latents"], "occupancy", self.name)
        return inputs["predictions"].units()

    @contextmanager
    def open(self, inputs: Inputs, context: WorkerContext) -> Iterator[Process]:
        reader = SceneReader(inputs["assets"])
        untrained = _UntrainedModel(inputs, torch_device(context.device))
        constant = fit_constant(_training_grids(inputs)).grid
        constant_surface = surface_from_occupancy(constant)

        def process(layout_id: int) -> list[Row]:
            [layout] = inputs["layouts"].rows_of(layout_id)
            scene = reader.read(layout)
            latents = {row["view_index"]: row for row in inputs["latents"].rows_of(layout_id)}
            rows = []
            for prediction in inputs["predictions"].rows_of(layout_id):
                latent = latents[prediction["view_index"]]
                num = latent["num_instances"]
                truth = SceneGeometry(
                    [
                        (transform_points(latent["world_to_canonical"], v), f)
                        for v, f in scene.meshes
                    ],
                    unpack_occupancy(latent["occupancy"].tobytes())[1:],
                )
                methods = {
                    "model": read_prediction(inputs["predictions"], prediction),
                    "untrained": untrained.predict(layout_id, prediction["view_index"], num),
                    "constant": SceneGeometry(
                        [constant_surface] * num, np.broadcast_to(constant, (num, *constant.shape))
                    ),
                }
                for method, predicted in methods.items():
                    scores = score_scene(
                        predicted,
                        truth,
                        points_per_object=self.points_per_object,
                        seed=self.seed,
                    )
                    rows += scores.rows(
                        layout_id=layout_id,
                        view_index=prediction["view_index"],
                        split=prediction["split"],
                        method=method,
                    )
            return rows

        with torch_threads(context.threads):
            yield process

    def summarise(self, output: Output) -> dict[str, Any]:
        """Add the table of means: scenes, and objects, by split and method."""
        rows = list(output.rows(list(SCORES.names)))
        counts = {"scored_views": len({(row["layout_id"], row["view_index"]) for row in rows})}
        return {"counts": counts, "summary": mean_scores(rows)}


class _UntrainedModel:
    """The same network at its first step, sampled in the same way with the same noise."""

    def __init__(self, inputs: Inputs, device: torch.device) -> None:
        trained = read_scene_model(inputs["model"], device)
        fields = inputs["model"].fields
        blocks = fields.get("scene_context_blocks")
        model = build_model(fields["model"], fields["seed"], trained.image_encoder_name, blocks)
        model.image_encoder = model.image_encoder or trained.image_encoder
        model.latent_mean.copy_(trained.latent_mean)
        model.latent_std.copy_(trained.latent_std)
        self._stage = _infer_stage(inputs["predictions"])
        decoder = load_autoencoder(self._stage.decoder, "decoder", device)
        self._networks = Networks(model.to(device).eval(), decoder)
        self._inputs = inputs

    def predict(self, layout_id: int, view_index: int, num_instances: int) -> SceneGeometry:
        columns = ["view_index", "rgb", "instance_map"]
        views = self._inputs["renders"].rows_of(layout_id, columns)
        [render] = [row for row in views if row["view_index"] == view_index]
        logits = self._stage.sample(self._networks, layout_id, render, num_instances)
        surfaces = [surface_from_logits(grid) for grid in logits[1:]]
        return SceneGeometry(surfaces, logits[1:] > 0)


def _infer_stage(predictions: Dataset) -> InferScenes:
    """Return the stage that made the predictions, from its fields."""
    fields = predictions.fields
    sampler = {f.name: fields.pop(f.name) for f in dataclass_fields(SamplerConfig)}
    sampler["cfg_interval"] = tuple(sampler["cfg_interval"])
    own = {f.name for f in dataclass_fields(InferScenes)}  # those of other nested ones stay out
    known = {name: value for name, value in fields.items() if name in own}
    return InferScenes(sampler=SamplerConfig(**sampler), **known)


def read_prediction(predictions: Dataset, row: Row) -> SceneGeometry:
    """Return a sampled scene as its files hold it."""
    folder = predictions.folder.path / row["path"]
    meshes = read_scene_glb(folder / "scene.glb")
    with np.load(folder / "occupancy.npz") as file:
        occupancies = file["instances"]
    return SceneGeometry([meshes.get(i) for i in range(row["num_instances"])], occupancies)


def _training_grids(inputs: Inputs) -> Iterator[NDArray[np.bool_]]:
    """Iterate over the instances' grids of training views."""
    latents = inputs["latents"]
    held_out = validation_layouts(latents.units(), inputs["model"].fields["val_fraction"])
    views = 0
    for row in latents.rows(["layout_id", "occupancy"]):
        if row["layout_id"] in held_out:
            continue
        yield from unpack_occupancy(row["occupancy"].tobytes())[1:]
        views += 1
        if views == MAX_CONSTANT_VIEWS:
            return


def mean_scores(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return mean scores by split, method and level (scene or object), with their numbers.

    Missing instances have no Chamfer distance; ``missing`` says how many.
    """
    table = []
    keys = dict.fromkeys((row["split"], row["method"]) for row in rows)
    for split, method in sorted(keys):
        for level in ("scene", "object"):
            group = [
                row
                for row in rows
                if (row["split"], row["method"]) == (split, method)
                and (row["placement_index"] == WHOLE_SCENE) == (level == "scene")
            ]
            entry: dict[str, Any] = {"split": split, "method": method, "level": level}
            entry["count"] = len(group)
            values = {name: np.array([row[name] for row in group], float) for name in METRICS}
            entry["missing"] = int(np.isnan(values["cd_sq_sum"]).sum())
            for name, column in values.items():
                known = column[~np.isnan(column)]
                entry[name] = round(float(known.mean()), 5) if len(known) else None
            table.append(entry)
    return table
