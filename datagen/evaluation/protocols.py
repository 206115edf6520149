"""Scores as each method's own paper or code takes them, for comparison with its published numbers.

What is published differs in points, squares, normalisation, and in what is aligned when; the same
weights have been printed with scene F-scores from 50 to 90. ``PROTOCOLS`` states every such choice.
Inputs stand in their declared ranges (±0.5 unless said), Z up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np

from datagen.core.frames import Floats, transform_points
from datagen.core.meshes import Mesh, transform_mesh
from datagen.core.seeding import rng_for
from datagen.errors import ConfigError, RowError
from datagen.evaluation.formulas import Chamfer
from datagen.evaluation.matching import (
    Matching,
    match_by_order,
    match_by_overlap,
    surface_voxels,
)
from datagen.evaluation.metrics import Given, floors_of, metrics_at, of_clouds, scores_of
from datagen.evaluation.points import sample_surface, used_vertices
from datagen.evaluation.registration.align import AlignOptions, align_clouds
from datagen.evaluation.registration.published_icp import filterreg, midi_icp
from datagen.evaluation.registration.similarity import own_box_to_unit, range_to_unit

Aligner = Literal["none", "midi", "filterreg", "robust", "multistart"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every choice that a published score depends on."""

    points: int
    """Surface samples of each object, or of the scene: see ``points_of``."""
    points_of: Literal["object", "scene"] = "object"
    """Of each object, whatever its size, or of the whole scene by area."""
    chamfer: Chamfer = "cd_sq_sum"
    """What the method calls CD: squared or not, both directions added or averaged."""
    taus: tuple[float, ...] = (0.1,)
    scene_space: Literal["range", "own_box", "as_is"] = "range"
    """The declared range made [−1, 1], each side's own box, or the units it comes in."""
    side: float = 1.0
    """Of an own box, in place of 1."""
    scene_aligner: Aligner = "none"
    object_space: Literal["stretched", "true_box"] | None = None
    """Each cloud's own box stretched axis by axis to ±0.95, before the scene is aligned; or both
    clouds by the true object's box to ±1, after it; None where no object is scored."""
    object_aligner: Aligner = "none"
    boxes: Literal["before", "after"] | None = None
    """Whether the objects' boxes overlap before or after the scene is aligned."""
    scene_box: bool = False
    """Whether the overlap of the whole scenes' boxes is scored."""
    self_overlap: bool = False
    """Whether the predicted parts' overlap with each other is scored: less is better."""
    match: Literal["order", "overlap"] = "order"


DEFAULT_PROTOCOL = "iscene"
"""The protocol of ``evaluate`` unless another is named, and of a workspace's aligned scores."""

PROTOCOLS: dict[str, Protocol] = {
    # Robust ICP in two spaces. Points and squares are not published: MIDI's are taken.
    DEFAULT_PROTOCOL: Protocol(
        points=20_480,
        taus=(0.1, 0.05, 0.01),
        scene_aligner="robust",
        object_space="true_box",
        object_aligner="robust",
        boxes="after",
        scene_box=True,
    ),
    # Code: boxes are compared as they come although the clouds are aligned.
    "midi": Protocol(
        points=20_480,
        scene_aligner="midi",
        object_space="stretched",
        object_aligner="midi",
        boxes="before",
    ),
    "scenegen": Protocol(
        points=10_240,
        scene_space="own_box",
        side=0.98,
        scene_aligner="filterreg",
        object_space="stretched",
        object_aligner="filterreg",
        boxes="after",
    ),
    "partcrafter": Protocol(
        points=204_800,
        points_of="scene",
        chamfer="cd_l2_sum",
        scene_space="own_box",
        self_overlap=True,
        match="overlap",
    ),
    # Metres of the camera frame, thresholds too.
    "gen3dsr": Protocol(
        points=1_000_000,
        points_of="scene",
        chamfer="cd_l2_mean",
        taus=(0.1, 0.01, 0.001),
        scene_space="as_is",
        match="overlap",
    ),
}


@dataclass(frozen=True)
class ProtocolScores:
    """One scene's scores by a protocol."""

    protocol: str
    chamfer: str
    """The formula behind ``cd``."""
    scene: dict[str, float]
    """Scores and floors by column of ``comparison``: distances, F-scores at the protocol's
    thresholds, and the overlaps that the protocol has."""
    objects: tuple[dict[str, float], ...]
    """The same of each true object; empty where the protocol scores none."""
    matching: Matching
    transform: Floats = field(repr=False)
    """(4, 4), the alignment, prediction to truth, in the space of the scores."""

    def mean(self, name: str) -> float:
        """Return the mean of an object's score over all true objects.

        A missing object has the F-score and overlap 0, and no Chamfer distance: it is left out of
        that one mean, so look at ``matching.missing`` beside it.
        """
        values = np.array([scores[name] for scores in self.objects])
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def score_protocol(
    prediction: Sequence[Mesh | None],
    truth: Sequence[Mesh],
    protocol: str | Protocol = DEFAULT_PROTOCOL,
    *,
    align: AlignOptions | None = None,
    seed: int = 0,
) -> ProtocolScores:
    """Score predicted instances against the true ones by a published protocol.

    Args:
        prediction: vertices (V, 3), faces (F, 3) an instance; None, or no faces, where missing.
        truth: the same, all present.
        protocol: a name of PROTOCOLS, or one's own.
        align: ranges, up axis and numbers of the robust ICP or multistart, where the protocol
            aligns with one of them. Its ``align`` takes the place of "robust".
        seed: of the surface samples.

    Raises:
        ConfigError: the protocol is unknown.
        RowError: there is no true instance, or a surface that cannot be sampled.
    """
    name = protocol if isinstance(protocol, str) else "custom"
    chosen, align = _protocol(protocol), align or AlignOptions()
    if not truth:
        raise RowError("a scene of 0 true instances cannot be scored; leave it out.")
    predicted = [None if mesh is None or len(mesh[1]) == 0 else mesh for mesh in prediction]
    before = in_score_space(predicted, chosen, align.source_range)
    true = _present(in_score_space(truth, chosen, align.target_range))
    cloud, true_cloud = (
        _whole_cloud(_present(meshes), chosen, seed, side)
        for meshes, side in ((before, "predicted"), (true, "true"))
    )
    transform = np.eye(4)
    if len(cloud):
        transform = _aligned(chosen.scene_aligner, cloud, true_cloud, align)
    after = [None if mesh is None else transform_mesh(transform, mesh) for mesh in before]
    matching = _matched(after, true, chosen)
    again = _whole_cloud(true, chosen, seed, "floor")
    given = _clouds(transform_points(transform, cloud), true_cloud, chosen)
    given |= _scene_overlaps(_present(after), true, chosen)
    scene = _scores(given, _clouds(again, true_cloud, chosen), chosen)
    objects = []
    for index, partner in enumerate(matching.partners):
        found = (None, None) if partner is None else (before[partner], after[partner])
        sides = _object_given(found, true[index], index, chosen, align, seed)
        objects.append(_scores(*sides, chosen))
    return ProtocolScores(name, chosen.chamfer, scene, tuple(objects), matching, transform)


def _protocol(protocol: str | Protocol) -> Protocol:
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise ConfigError(f"protocol is {protocol!r}; expected one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[protocol]


def in_score_space(
    meshes: Sequence[Mesh | None], protocol: Protocol, declared: tuple[float, float]
) -> list[Mesh | None]:
    """Return a scene's meshes in the space that the protocol scores in, not aligned yet.

    Args:
        meshes: vertices (V, 3), faces (F, 3) an instance; None where missing.
        protocol: whose space.
        declared: lowest and highest coordinate that the method's cube has.
    """
    to_space = np.eye(4)
    if protocol.scene_space == "range":
        to_space = range_to_unit(*declared)
    elif protocol.scene_space == "own_box" and _present(meshes):
        corners = np.concatenate([used_vertices(mesh) for mesh in _present(meshes)])
        to_space = np.diag([protocol.side] * 3 + [1.0]) @ own_box_to_unit(corners)
    return [None if mesh is None else transform_mesh(to_space, mesh) for mesh in meshes]


def _present(meshes: Sequence[Mesh | None]) -> list[Mesh]:
    return [mesh for mesh in meshes if mesh is not None]


def _whole_cloud(meshes: Sequence[Mesh], protocol: Protocol, seed: int, side: str) -> Floats:
    """Return the scene's points (N, 3): equally many an object, or sampled by area over all."""
    if not meshes:
        return np.zeros((0, 3))
    if protocol.points_of == "scene":
        starts = np.cumsum([0, *(len(vertices) for vertices, _ in meshes[:-1])])
        vertices = np.concatenate([vertices for vertices, _ in meshes])
        faces = np.concatenate(
            [faces + start for (_, faces), start in zip(meshes, starts, strict=True)]
        )
        return sample_surface((vertices, faces), protocol.points, rng_for(seed, "protocol", side))
    return np.concatenate(
        [_object_cloud(mesh, protocol, seed, side, index) for index, mesh in enumerate(meshes)]
    )


def _object_cloud(mesh: Mesh, protocol: Protocol, seed: int, side: str, index: int) -> Floats:
    return sample_surface(mesh, protocol.points, rng_for(seed, "protocol", side, index))


def _aligned(aligner: Aligner, source: Floats, target: Floats, align: AlignOptions) -> Floats:
    """Return the alignment (4, 4) of clouds that stand in the space of the scores already."""
    if aligner == "midi":
        return midi_icp(source, target)
    if aligner == "filterreg":
        return filterreg(source, target)
    if aligner == "none":
        return np.eye(4)
    unit = (-1.0, 1.0)
    return align_clouds(
        source, target, replace(align, source_range=unit, target_range=unit)
    ).transform


def _matched(
    predicted: Sequence[Mesh | None], true: Sequence[Mesh], protocol: Protocol
) -> Matching:
    if protocol.match == "overlap":
        return match_by_overlap(predicted, true)
    matching = match_by_order(len(predicted), len(true))
    partners = tuple(
        None if partner is None or predicted[partner] is None else partner
        for partner in matching.partners
    )
    return Matching(partners, matching.unmatched)


def _clouds(predicted: Floats, true: Floats, protocol: Protocol) -> Given:
    return of_clouds(predicted if len(predicted) else None, true, protocol.chamfer)


def _scores(given: Given, again: Given, protocol: Protocol) -> dict[str, float]:
    """Return scores, and as floors what the truth, sampled again, scores."""
    metrics = metrics_at(protocol.taus)
    return scores_of(metrics, given) | floors_of(metrics, again, "protocol")


def _scene_overlaps(predicted: Sequence[Mesh], true: Sequence[Mesh], protocol: Protocol) -> Given:
    given: Given = {}
    if protocol.scene_box:
        sides = (predicted, true)
        corners = [np.concatenate([used_vertices(m) for m in side]) for side in sides if side]
        given["boxes"] = corners if predicted else None
    if protocol.self_overlap:
        given["parts"] = (predicted,)
    return given


def _overlaps(predicted: Mesh | None, true: Mesh) -> Given:
    """Return what IoU-O reads, of boxes and of surface voxels."""
    if predicted is None:
        return {"boxes": None, "voxels": None}
    return {
        "boxes": (used_vertices(predicted), used_vertices(true)),
        "voxels": surface_voxels([predicted, true]),
    }


def _object_given(
    predicted: tuple[Mesh | None, Mesh | None],
    true: Mesh,
    index: int,
    protocol: Protocol,
    align: AlignOptions,
    seed: int,
) -> tuple[Given, Given]:
    """Return what metrics read of an object before and after alignment, and of its truth twice."""
    before, after = predicted
    given: Given = {}
    again: Given = {}
    if protocol.boxes is not None:
        given |= _overlaps(before if protocol.boxes == "before" else after, true)
    if protocol.object_space is not None:
        thing = before if protocol.object_space == "stretched" else after
        clouds, again = _object_clouds(thing, true, index, protocol, align, seed)
        given |= clouds
    return given, again


def _object_clouds(
    predicted: Mesh | None,
    true: Mesh,
    index: int,
    protocol: Protocol,
    align: AlignOptions,
    seed: int,
) -> tuple[Given, Given]:
    """Return what metrics read of an object's clouds, and of the truth's two samples."""
    to_space: Callable[[Floats], Floats] = _stretched
    if protocol.object_space == "true_box":
        to_space = partial(transform_points, own_box_to_unit(used_vertices(true)))
    target, again = (
        to_space(_object_cloud(true, protocol, seed, side, index)) for side in ("true", "floor")
    )
    cloud = np.zeros((0, 3))
    if predicted is not None:
        cloud = to_space(_object_cloud(predicted, protocol, seed, "predicted", index))
        cloud = transform_points(_aligned(protocol.object_aligner, cloud, target, align), cloud)
    return _clouds(cloud, target, protocol), _clouds(again, target, protocol)


def _stretched(points: Floats) -> Floats:
    return 0.95 * transform_points(own_box_to_unit(points, per_axis=True), points)
