"""``datagen evaluate``: scores sampled scenes, and two baselines, against the ground truth."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.engine.stage import Inputs
from datagen.engine.units import Process, UnitStage, WorkerContext
from datagen.errors import ConfigError, StageError
from datagen.evaluation.collision import require_fcl
from datagen.evaluation.compare import Comparison, comparison_rows
from datagen.evaluation.constant import fit_constant
from datagen.evaluation.metrics import ALIGNED, CD_SQ_SUM, VIEW_TAUS, metrics_at
from datagen.evaluation.points import POINTS_PER_OBJECT
from datagen.evaluation.readers import PREDICTED, ReadScene
from datagen.evaluation.registration.align import Align
from datagen.evaluation.registration.open3d_icp import require_open3d
from datagen.evaluation.scene import WHOLE_SCENE, SceneGeometry, score_scene
from datagen.evaluation.summary import collision_curve
from datagen.evaluation.tables import SCORES
from datagen.models import build_model
from datagen.models.devices import torch_device, torch_threads
from datagen.models.named_checkpoints import load_autoencoder
from datagen.sampling.networks import Networks, read_scene_model
from datagen.sampling.scenes import SamplerConfig
from datagen.sampling.surfaces import (
    read_scene_glb,
    surface_from_logits,
    surface_from_occupancy,
)
from datagen.shards import Dataset, Output, Row
from datagen.shards.declared import ASSETS, LATENTS, LAYOUTS, MODEL, PREDICTIONS, RENDERS
from datagen.shards.scenes import SceneReader
from datagen.shards.splits import validation_layouts
from datagen.shards.tables import Table
from datagen.stages.encode import check_stored
from datagen.stages.infer import InferScenes
from datagen.voxels import unpack_instances

MEAN_TAUS = VIEW_TAUS[:2]
"""Distance thresholds whose mean F-scores are in the manifest."""

_ALIGNED = tuple(name for name in SCORES.schema.names if name.startswith(ALIGNED))
_COLLIDING = ("num_predicted", "num_colliding", "num_colliding_at")
MAX_CONSTANT_VIEWS = 1000


@dataclass(frozen=True, kw_only=True)
class EvaluateScenes(UnitStage):
    """Score every sampled scene, as a whole and per object, in the view's canonical frame.

    Two baselines are scored in the same way: the same network before its first training step
    (``untrained``) and the best constant grid (``constant``).

    The ``aligned_`` scores are computed as by ``evaluate --pred --gt``, after the whole scene is
    aligned to the truth. Collisions are computed in the same way, for the model only.
    """

    name: ClassVar[str] = "evaluate"
    table: ClassVar[Table] = SCORES
    revision: ClassVar[int] = 2
    reads: ClassVar[tuple[Table, ...]] = (ASSETS, LAYOUTS, RENDERS, LATENTS, MODEL, PREDICTIONS)

    points_per_object: int = POINTS_PER_OBJECT
    """Surface samples per object."""
    align: Align = "robust"
    """How each scene is aligned to the truth for the aligned scores. With none, aligned scores are
    not computed."""
    aligned_points: int = 1024
    """Surface samples per object for the aligned scores. Their run time depends mostly on it."""
    collision_faces: int = 200_000
    """Collision rates are computed for predicted scenes of at most this many faces. 0: for none."""
    scenes_per_shard: int = 8
    """Scenes per shard (one Parquet file)."""
    seed: int = 0
    """Random seed of the surface samples."""

    def __post_init__(self) -> None:
        if self.points_per_object < 1 or self.scenes_per_shard < 1 or self.aligned_points < 3:
            raise ConfigError(
                "points_per_object and scenes_per_shard must be at least 1, and aligned_points at "
                f"least 3, got {self.points_per_object}, {self.scenes_per_shard} and "
                f"{self.aligned_points}."
            )

    def units(self, inputs: Inputs) -> Sequence[int]:
        check_stored(inputs["latents"], "occupancy", self.name)
        return inputs["predictions"].units()

    @contextmanager
    def open(self, inputs: Inputs, context: WorkerContext) -> Iterator[Process]:
        if self.align != "none":
            _require(require_open3d, "Or skip the aligned scores: --align none.")
        if self.collision_faces:
            _require(require_fcl, "Or skip the collisions: --collision-faces 0.")
        reader = SceneReader(inputs["assets"])
        untrained = _UntrainedModel(inputs, torch_device(context.settings.device))
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
                    scene.transformed(latent["world_to_canonical"]),
                    unpack_instances(latent["occupancy"].tobytes()),
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
                    own = scores.rows(
                        layout_id=layout_id,
                        view_index=prediction["view_index"],
                        split=prediction["split"],
                        method=method,
                    )
                    more = self._compared(predicted, truth, collisions=method == "model")
                    rows += [row | extra for row, extra in zip(own, more, strict=True)]
            return rows

        with torch_threads(context.threads):
            yield process

    def _compared(
        self, predicted: SceneGeometry, truth: SceneGeometry, *, collisions: bool
    ) -> list[Row]:
        """Return aligned scores and collisions: one row for the scene, then one per object."""
        how = Comparison(
            align=self.align,
            align_objects=False,  # takes as long as the scene, for each object
            points=self.aligned_points,
            collision_faces=self.collision_faces if collisions else 0,
            seed=self.seed,
        )
        sides = [
            ReadScene(tuple(m if m is not None and len(m[1]) else None for m in side.meshes))
            for side in (predicted, truth)
        ]
        file_format = PREDICTED["datagen"]
        rows = comparison_rows(sides[0], file_format, sides[1], file_format, how)
        aligned = self.align != "none"
        return [
            {name: row.get(name.removeprefix(ALIGNED)) if aligned else None for name in _ALIGNED}
            | {name: row.get(name) for name in _COLLIDING}
            for row in rows
        ]

    def summarise(self, output: Output) -> dict[str, Any]:
        """Return the number of scored views and the table of mean scores."""
        rows = list(output.rows(SCORES.schema.names))
        counts = {"scored_views": len({(row["layout_id"], row["view_index"]) for row in rows})}
        return {"counts": counts, "summary": mean_scores(rows)}


class _UntrainedModel:
    """The same network before its first training step, sampled with the same settings and noise."""

    def __init__(self, inputs: Inputs, device: torch.device) -> None:
        trained = read_scene_model(inputs["model"], device)
        fields = inputs["model"].fields
        model = build_model(
            fields["model"],
            fields["seed"],
            image_encoder=trained.image_encoder_name,
            scene_context_blocks=fields.get("scene_context_blocks"),
        )
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


def _require(load: Callable[[], Any], way_out: str) -> None:
    """Load a package of the extra `evaluate` before the first scene is scored.

    Raises:
        StageError: it cannot be loaded. The message ends with ``way_out``.
    """
    try:
        load()
    except StageError as error:
        raise StageError(f"{error} {way_out}") from error


def _infer_stage(predictions: Dataset) -> InferScenes:
    """Return the stage that made the predictions, from the fields in its manifest."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value  # JSON has no tuples
        for name, value in predictions.fields.items()
    }
    sampler = {f.name: fields.pop(f.name) for f in dataclass_fields(SamplerConfig)}
    own = {
        f.name for f in dataclass_fields(InferScenes)
    }  # leaves out the fields of nested settings
    known = {name: value for name, value in fields.items() if name in own}
    return InferScenes(sampler=SamplerConfig(**sampler), **known)


def read_prediction(predictions: Dataset, row: Row) -> SceneGeometry:
    """Return a sampled scene, read from its files.

    Args:
        predictions: the dataset.
        row: one of its rows.
    """
    folder = predictions.folder.path / row["path"]
    meshes = read_scene_glb(folder / "scene.glb")
    with np.load(folder / "occupancy.npz") as file:
        occupancies = file["instances"]
    return SceneGeometry([meshes.get(i) for i in range(row["num_instances"])], occupancies)


def _training_grids(inputs: Inputs) -> Iterator[NDArray[np.bool_]]:
    """Yield the grid (64, 64, 64) of each instance in at most MAX_CONSTANT_VIEWS training views."""
    latents = inputs["latents"]
    held_out = validation_layouts(latents.units(), inputs["model"].fields["val_fraction"])
    views = 0
    for row in latents.rows(["layout_id", "occupancy"]):
        if row["layout_id"] in held_out:
            continue
        yield from unpack_instances(row["occupancy"].tobytes())
        views += 1
        if views == MAX_CONSTANT_VIEWS:
            return


def mean_scores(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the mean scores of each split, method and level (scene or object), one entry each.

    ``count`` is the number of scenes or objects. ``missing`` is the number without a Chamfer
    distance, because nothing was predicted. Means are over known values, None without any.
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
            values = {name: np.array([row[name] for row in group], float) for name in _means()}
            curve = collision_curve(group) if level == "scene" else []
            entry["collisions"] = [{"tolerance": at.tolerance, **at.rates} for at in curve]
            entry["missing"] = int(np.isnan(values[CD_SQ_SUM.name]).sum())
            for name, column in values.items():
                known = column[~np.isnan(column)]
                entry[name] = round(float(known.mean()), 5) if len(known) else None
            table.append(entry)
    return table


def _means() -> list[str]:
    """Return the score columns that have means: in the view's frame, then aligned."""
    metrics = metrics_at(MEAN_TAUS, "voxels", "boxes", "distances", "thresholds")
    own = [metric for metric in metrics if metric.in_scores]
    aligned = [ALIGNED + metric.name for metric in own if "means" in metric.aligned_in]
    return [metric.name for metric in own] + aligned
