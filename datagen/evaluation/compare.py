"""One predicted scene against its truth, whatever method made it: the rows of its scores."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from datagen.core.meshes import Mesh
from datagen.errors import ConfigError, RowError
from datagen.evaluation.collision import (
    TOLERANCE,
    TOLERANCES,
    SceneCollisions,
    scene_collisions,
)
from datagen.evaluation.protocols import (
    DEFAULT_PROTOCOL,
    PROTOCOLS,
    Protocol,
    ProtocolScores,
    in_score_space,
    score_protocol,
)
from datagen.evaluation.readers import ReadScene, SceneFormat, extent, reach
from datagen.evaluation.registration.align import Align, AlignOptions
from datagen.evaluation.scene import WHOLE_SCENE

RANGE_SLACK = 1.02
"""Tolerance on the declared range: beyond it the scene's own extent is used."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How predictions are scored: what every result depends on beside the files."""

    protocol: str = DEFAULT_PROTOCOL
    """Whose definitions: iscene (the default), midi, scenegen, partcrafter or gen3dsr."""
    align: Align = "robust"
    """Of protocols with robust ICP: that, the stronger multistart, or none."""
    align_objects: bool = True
    """Whether each object is aligned once more for its own CD and F-score, where the protocol says
    so; otherwise the scene's alignment is all."""
    points: int | None = None
    """Surface samples, in place of the protocol's."""
    collision_faces: int = 500_000
    """Scenes of more predicted faces get no collision rates; 0: none does."""
    seed: int = 0
    """Of the surface samples and the bootstrap."""

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ConfigError(
                f"--protocol {self.protocol!r}: unknown. Expected one of {', '.join(PROTOCOLS)}."
            )
        if self.points is not None and self.points < 3:
            raise ConfigError(f"--points must be at least 3, got {self.points}.")

    def definition(self, file_format: SceneFormat) -> Protocol:
        """Return the protocol; instances without an order are matched by overlap in any case."""
        protocol = PROTOCOLS[self.protocol]
        if file_format.match == "overlap":
            protocol = replace(protocol, match="overlap")
        if not self.align_objects:
            protocol = replace(protocol, object_aligner="none")
        return protocol if self.points is None else replace(protocol, points=self.points)

    def words(self) -> str:
        """Return what decides the scores beside the files: points, spaces, thresholds, seed."""
        protocol = PROTOCOLS[self.protocol]
        points = protocol.points if self.points is None else self.points
        objects = _OBJECT_SPACES[protocol.object_space]
        if protocol.object_aligner != "none":
            objects += f", {'' if self.align_objects else 'not '}aligned once more"
        taus = ", ".join(f"{tau:g}" for tau in protocol.taus)
        return (
            f"Protocol {self.protocol}: {points} surface samples of each {protocol.points_of}; "
            f"scenes scored in {_SCENE_SPACES[protocol.scene_space]}; objects {objects}; "
            f"F-scores at {taus}; seed {self.seed}; "
            f"collisions deeper than {TOLERANCE:.1%} of the scene's extent"
        )


_SCENE_SPACES = {
    "range": "the declared range made [−1, 1]",
    "own_box": "each side's own box",
    "as_is": "the units that they come in",
}
_OBJECT_SPACES = {
    "true_box": "in the true object's box made [−1, 1]",
    "stretched": "each stretched to ±0.95 by its own box",
    None: "not scored",
}


def in_one_space(
    prediction: ReadScene,
    file_format: SceneFormat,
    truth: ReadScene,
    true_format: SceneFormat,
    how: Comparison,
) -> tuple[list[Mesh | None], list[Mesh | None]]:
    """Return predicted and true instances in the space of the scores, before alignment.

    The ``transform`` of a scene's row brings the predicted ones onto the true ones.

    Returns:
        A list for each side; per instance vertices (V, 3) and faces (F, 3), or None if it has no
        surface.
    """
    definition = how.definition(file_format)
    predicted_range, _ = _range_of(prediction, file_format, "predicted")
    true_range, _ = _range_of(truth, true_format, "true")
    return (
        in_score_space(prediction.meshes, definition, predicted_range),
        in_score_space(truth.meshes, definition, true_range),
    )


def comparison_rows(
    prediction: ReadScene,
    file_format: SceneFormat,
    truth: ReadScene,
    true_format: SceneFormat,
    how: Comparison,
) -> list[dict[str, Any]]:
    """Return the row of the whole scene, then one row for each true instance.

    Args:
        prediction: the predicted instances.
        file_format: of the prediction.
        truth: the true instances.
        true_format: of the truth.
        how: protocol, alignment and number of points.

    Raises:
        RowError: a true instance has no surface, or a surface cannot be sampled.
    """
    absent = [index for index, mesh in enumerate(truth.meshes) if mesh is None]
    if absent or not truth.meshes:
        raise RowError(
            f"true instances {absent} of {len(truth.meshes)} have no surface; only predicted ones "
            "may be missing. Repair the truth."
        )
    true = [mesh for mesh in truth.meshes if mesh is not None]
    source_range, source_warning = _range_of(prediction, file_format, "predicted")
    target_range, target_warning = _range_of(truth, true_format, "true")
    options = AlignOptions(align=how.align, source_range=source_range, target_range=target_range)
    definition = how.definition(file_format)
    scores = score_protocol(prediction.meshes, true, definition, align=options, seed=how.seed)
    collisions = _collisions(prediction, how)
    warnings = [*source_warning, *target_warning, *_count_warnings(prediction, true, definition)]
    if collisions is None:
        warnings.append(f"{num_faces(prediction)} faces: no collisions (--collision-faces)")
    shared = {
        "protocol": how.protocol,
        "align": how.align if definition.scene_aligner == "robust" else definition.scene_aligner,
        "chamfer": scores.chamfer,
        "points": definition.points,
        "matched_by": definition.match,
    }
    scene = shared | _scene_row(prediction, scores, collisions) | {"warnings": warnings}
    return [scene, *(shared | row for row in _object_rows(scores, collisions))]


def num_faces(scene: ReadScene) -> int:
    """Return how many triangles a scene's instances have."""
    return sum(len(mesh[1]) for mesh in scene.meshes if mesh is not None)


def _range_of(
    scene: ReadScene, file_format: SceneFormat, side: str
) -> tuple[tuple[float, float], list[str]]:
    """Return the range that becomes [−1, 1]: the declared one, or the scene's extent about 0."""
    if all(mesh is None for mesh in scene.meshes):
        return file_format.declared_range or (-1.0, 1.0), []
    half = extent(scene) / 2
    if file_format.declared_range is None:
        return (-half, half), []
    low, high = reach(scene)
    if low >= file_format.declared_range[0] * RANGE_SLACK and high <= (
        file_format.declared_range[1] * RANGE_SLACK
    ):
        return file_format.declared_range, []
    return (-half, half), [
        f"{side} coordinates from {low:.3g} to {high:.3g} pass the declared "
        f"{file_format.declared_range}; the scene's extent was taken instead"
    ]


def _count_warnings(prediction: ReadScene, true: Sequence[Any], definition: Protocol) -> list[str]:
    num = len(prediction.meshes)
    if num == len(true):
        return []
    return [f"{num} predicted and {len(true)} true instances, matched by {definition.match}"]


def _collisions(prediction: ReadScene, how: Comparison) -> SceneCollisions | None:
    if num_faces(prediction) > how.collision_faces:
        return None
    return scene_collisions(prediction.meshes)


def _scene_row(
    prediction: ReadScene, scores: ProtocolScores, collisions: SceneCollisions | None
) -> dict[str, Any]:
    matching = scores.matching
    present = [mesh is not None for mesh in prediction.meshes]
    return {
        "instance_index": WHOLE_SCENE,
        "num_true": len(matching.partners),
        "num_predicted": sum(present),
        "num_missing": len(matching.missing),
        "num_superfluous": sum(present[index] for index in matching.unmatched),
        "num_colliding": None if collisions is None else len(collisions.colliding()),
        "num_colliding_at": None
        if collisions is None
        else [len(collisions.colliding(tolerance)) for tolerance in TOLERANCES],
        "transform": scores.transform.ravel().tolist(),
        **scores.scene,
    }


def _object_rows(
    scores: ProtocolScores, collisions: SceneCollisions | None
) -> list[dict[str, Any]]:
    colliding = () if collisions is None else collisions.colliding()
    rows = []
    for index, partner in enumerate(scores.matching.partners):
        known = collisions is not None and partner is not None
        rows.append(
            {
                "instance_index": index,
                "partner_index": partner,
                "num_colliding": int(partner in colliding) if known else None,
                **scores.objects[index],
            }
        )
    return rows
