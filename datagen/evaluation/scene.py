"""Score one predicted scene against the truth: the scene as a whole, and object by object.

The space is stated, since Chamfer distance and F-score mean nothing without it:

* Inputs are in the view's canonical frame, [−0.5, 0.5]³.
* **Scene** scores are taken in that frame times two, [−1, 1]³, as the papers do, over the
  concatenated clouds of the objects: equally many points an object, so a mug weighs as a bed does.
* **Object** CD and F-score: both clouds are moved and scaled *by the true object's own box* (centre
  to the origin, longest side to 2, one factor for all axes). A wrong position, size or aspect
  therefore costs; only the true object's size is divided out. (MIDI-3D and those after it stretch
  prediction and truth each by its own box, axis by axis, which hides wrong aspects.)
* IoUs, of voxels and of axis-aligned boxes, are taken in the scene frame.

No registration: both sides stand in the frame that the view defines. A missing instance counts as
worst (F-score and IoU 0, CD nan) and is listed; means of F-score and IoU include it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.core.frames import Floats
from datagen.core.meshes import Mesh
from datagen.core.seeding import rng_for
from datagen.errors import RowError
from datagen.evaluation.metrics import (
    VIEW_TAUS,
    Given,
    Reads,
    floors_of,
    metrics_at,
    of_clouds,
    scores_of,
)
from datagen.evaluation.points import POINTS_PER_OBJECT, sample_surface, used_vertices

WHOLE_SCENE = -1
"""``placement_index`` of the row that scores the scene as a whole."""

SPACE_SCALE = 2.0
"""From [−0.5, 0.5]³ to the papers' [−1, 1]³."""

_READS: tuple[Reads, ...] = ("distances", "thresholds", "voxels", "boxes")


@dataclass(frozen=True)
class SceneGeometry:
    """The instances of one scene, in placement order, canonical frame."""

    meshes: Sequence[Mesh | None]
    """vertices (V, 3), faces (F, 3) an instance; None where there is none."""

    occupancies: NDArray[np.bool_] | None = None
    """(N, R, R, R), or None: then voxel IoU is nan."""


@dataclass(frozen=True)
class ThingScores:
    """The scores of one object, or of the whole scene."""

    placement_index: int
    """Of the object; WHOLE_SCENE for the scene."""
    values: dict[str, float]
    """Scores and floors by column of ``scores``; each is an attribute too (``.f_score_0_1``)."""

    def __getattr__(self, name: str) -> float:
        values: dict[str, float] = self.__dict__.get("values", {})
        if name not in values:
            raise AttributeError(f"{name!r} is no score; expected one of {', '.join(values)}.")
        return values[name]


@dataclass(frozen=True)
class SceneScores:
    """The scores of one predicted scene."""

    scene: ThingScores
    objects: tuple[ThingScores, ...]
    missing: tuple[int, ...]
    """Placement indices without a predicted surface."""

    def rows(
        self, *, layout_id: int, view_index: int, split: str, method: str
    ) -> list[dict[str, Any]]:
        """Return rows with the columns of ``tables.SCORES``, the whole scene's first."""
        key = {"layout_id": layout_id, "view_index": view_index, "split": split, "method": method}
        return [
            key | {"placement_index": thing.placement_index, **thing.values}
            for thing in (self.scene, *self.objects)
        ]


@dataclass(frozen=True)
class _Truth:
    """One true object: its vertices, its cloud, another sample of the same surface."""

    vertices: Floats
    cloud: Floats
    again: Floats

    def normalise(self, points: Floats) -> Floats:
        low, high = self.vertices.min(axis=0), self.vertices.max(axis=0)
        return np.asarray((points - (low + high) / 2) * (2.0 / (high - low).max()))


@dataclass(frozen=True)
class _Predicted:
    """One predicted object that has a surface."""

    vertices: Floats
    cloud: Floats


def score_scene(
    prediction: SceneGeometry,
    ground_truth: SceneGeometry,
    *,
    points_per_object: int = POINTS_PER_OBJECT,
    seed: int = 0,
) -> SceneScores:
    """Return the scores of a prediction against the truth; the module describes their spaces.

    The points depend on seed and placement index alone, so two predictions of one scene are
    scored against the same true points.

    Args:
        prediction: instances in the order of the true ones.
        ground_truth: the true instances.
        points_per_object: points that are sampled on each instance.
        seed: of the points.

    Raises:
        RowError: the scenes differ in their number of instances, a true instance is missing, or
            a surface cannot be sampled.
    """
    _check(prediction, ground_truth)
    truths = [
        _sample_truth(mesh, points_per_object, seed, index)
        for index, mesh in enumerate(ground_truth.meshes)
        if mesh is not None
    ]
    predicted = [
        None
        if mesh is None or len(mesh[1]) == 0
        else _sample_predicted(mesh, points_per_object, seed, index)
        for index, mesh in enumerate(prediction.meshes)
    ]
    objects = tuple(
        _score_object(index, thing, truth, _object_voxels(prediction, ground_truth, index))
        for index, (thing, truth) in enumerate(zip(predicted, truths, strict=True))
    )
    return SceneScores(
        scene=_score_whole(predicted, truths, _scene_voxels(prediction, ground_truth)),
        objects=objects,
        missing=tuple(index for index, thing in enumerate(predicted) if thing is None),
    )


def _check(prediction: SceneGeometry, ground_truth: SceneGeometry) -> None:
    num_predicted, num_true = len(prediction.meshes), len(ground_truth.meshes)
    if num_predicted != num_true or num_true == 0:
        raise RowError(
            f"{num_predicted} predicted and {num_true} true instances; expected one entry a "
            "placement on both sides, in placement order. Pass None for a missing one."
        )
    absent = [index for index, mesh in enumerate(ground_truth.meshes) if mesh is None]
    if absent:
        raise RowError(
            f"true instances {absent} have no mesh; only predicted ones may be missing. "
            "Check the assets that the layout names."
        )
    for name, side in (("predicted", prediction), ("true", ground_truth)):
        if side.occupancies is not None and len(side.occupancies) != num_true:
            raise RowError(
                f"{len(side.occupancies)} {name} voxel grids for {num_true} instances; expected "
                "one a placement, the scene's own grid left out."
            )


def _sample_truth(mesh: Mesh, num_points: int, seed: int, index: int) -> _Truth:
    return _Truth(
        vertices=used_vertices(mesh),
        cloud=sample_surface(mesh, num_points, rng_for(seed, "score", "true", index)),
        again=sample_surface(mesh, num_points, rng_for(seed, "score", "floor", index)),
    )


def _sample_predicted(mesh: Mesh, num_points: int, seed: int, index: int) -> _Predicted:
    rng = rng_for(seed, "score", "predicted", index)
    return _Predicted(vertices=used_vertices(mesh), cloud=sample_surface(mesh, num_points, rng))


def _score_object(
    index: int, predicted: _Predicted | None, truth: _Truth, voxels: Given
) -> ThingScores:
    target = truth.normalise(truth.cloud)
    boxes: Given = {"boxes": (predicted.vertices, truth.vertices) if predicted else None}
    clouds = of_clouds(truth.normalise(predicted.cloud) if predicted else None, target)
    again = of_clouds(truth.normalise(truth.again), target)
    return _thing_scores(index, {**clouds, **voxels, **boxes}, again)


def _score_whole(
    predicted: Sequence[_Predicted | None], truths: Sequence[_Truth], voxels: Given
) -> ThingScores:
    true = np.concatenate([truth.cloud for truth in truths]) * SPACE_SCALE
    again = np.concatenate([truth.again for truth in truths]) * SPACE_SCALE
    found = [thing for thing in predicted if thing is not None]
    cloud, boxes = None, None
    if found:
        cloud = np.concatenate([thing.cloud for thing in found]) * SPACE_SCALE
        boxes = (
            np.concatenate([thing.vertices for thing in found]),
            np.concatenate([truth.vertices for truth in truths]),
        )
    given: Given = {**of_clouds(cloud, true), **voxels, "boxes": boxes}
    return _thing_scores(WHOLE_SCENE, given, of_clouds(again, true))


def _thing_scores(index: int, given: Given, again: Given) -> ThingScores:
    """Return what is scored; nan where there is nothing to read."""
    metrics = [metric for metric in metrics_at(VIEW_TAUS, *_READS) if metric.in_scores]
    unknown = dict.fromkeys((metric.name for metric in metrics), float("nan"))
    floors = floors_of(metrics, again, "view")
    return ThingScores(index, unknown | scores_of(metrics, given) | floors)


def _object_voxels(prediction: SceneGeometry, truth: SceneGeometry, index: int) -> Given:
    if prediction.occupancies is None or truth.occupancies is None:
        return {}
    return {"voxels": (prediction.occupancies[index], truth.occupancies[index])}


def _scene_voxels(prediction: SceneGeometry, truth: SceneGeometry) -> Given:
    if prediction.occupancies is None or truth.occupancies is None:
        return {}
    return {"voxels": (prediction.occupancies.any(axis=0), truth.occupancies.any(axis=0))}
