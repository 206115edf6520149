"""Robust ICP, clause by clause: the alignment that I-Scene scores with.

The functions stand in the order of the published text. What it leaves open is a field of
``IcpOptions`` with its default and the reason for it.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.spatial import cKDTree

from datagen.core.frames import Floats, transform_points
from datagen.core.seeding import rng_for
from datagen.errors import ConfigError, RowError
from datagen.evaluation.points import Points
from datagen.evaluation.registration import open3d_icp
from datagen.evaluation.registration.open3d_icp import Match
from datagen.evaluation.registration.similarity import (
    UP,
    UpAxis,
    about,
    axis_rotations,
    own_box_to_unit,
    project_similarity,
    similarity,
)
from datagen.evaluation.registration.trimmed import TrimAs, trimmed_chamfer

Phase = Literal["fine", "coarse", "identity"]


@dataclass(frozen=True, kw_only=True)
class IcpOptions:
    """The numbers of the robust ICP, in its normalised units (longest side of both clouds: 1)."""

    voxel: float = 0.03
    """v: side of the voxels of the coarse clouds; the other distances are multiples of it."""

    num_yaws: int = 8
    """Rotations about the up axis that are tried."""

    sweep_centre: Literal["box", "origin", "centroid"] = "box"
    """Centre of the sweep's rotations. Open in the text. "origin" is its literal reading, the
    middle of the shared normalisation; "box" and "centroid" rotate the source about the middle of
    its own box (or its mean) and move that onto the target's. With "origin" one of the two spaces
    aligns half as often."""

    trim: float = 0.2
    """τ of the trimmed symmetric Chamfer distance."""

    trim_as: TrimAs = "fraction"
    """What τ is. Open in the text: the worst share of each direction that is left out, since as a
    distance 0.2 of the whole extent leaves out nearly nothing."""

    prescore_points: int = 2000
    """Most points a cloud in the sweep's scores."""

    num_seeds: int = 3
    """Best rotations from which a short ICP is run."""

    seed_iterations: int = 10
    """Of the short ICP. "Short" in the text; as many as the least that its two phases run."""

    iterations: int = 50
    """T: iterations of both phases together. Not in the text; as MIDI's ICP runs."""

    normal_neighbours: int = 30
    """Points a normal is fitted to, within twice the resolution. Not in the text."""

    allow_reflection: bool = False
    """Whether the result may mirror."""

    max_scale: float = 5.0
    """Results that grow or shrink more are invalid ("determinant check"; its bounds are open)."""

    max_translation: float = 2.0
    """Results that move farther are invalid: twice the extent of both clouds together."""

    seed: int = 0
    """Of the points that the sweep's scores are taken from."""

    def __post_init__(self) -> None:
        counts = (self.num_yaws, self.num_seeds, self.prescore_points, self.iterations)
        if min(counts) < 1 or self.voxel <= 0 or self.max_scale < 1:
            raise ConfigError(
                "robust ICP: num_yaws, num_seeds, prescore_points and iterations must be at least "
                f"1, voxel above 0, max_scale at least 1; got {counts}, {self.voxel} and "
                f"{self.max_scale}."
            )


@dataclass(frozen=True)
class Registration:
    """A transform, and how well it fits."""

    transform: Floats
    """(4, 4), from the source's coordinates to the target's."""

    fitness: float
    """Share of source points with a target point within v, normalised units."""

    rmse: float
    """Of those pairs, in normalised units (the longest side of both clouds together is 1)."""

    phase: Phase
    """Which phase's result this is: an invalid one falls back to the one before."""


@dataclass(frozen=True)
class NormalisedPair:
    """Both clouds in the shared normalisation."""

    source: Floats
    """(N, 3), inside [−0.5, 0.5]³."""

    target: Floats
    """(M, 3), inside [−0.5, 0.5]³."""

    to_normalised: Floats
    """(4, 4), from input coordinates."""

    def in_input_units(self, transform: Floats) -> Floats:
        """Return a transform (4, 4) of normalised coordinates as one of input coordinates."""
        return np.asarray(np.linalg.inv(self.to_normalised) @ transform @ self.to_normalised)


def robust_icp(
    source: Points,
    target: Points,
    *,
    up_axis: UpAxis = "z",
    with_scale: bool = True,
    options: IcpOptions | None = None,
) -> Registration:
    """Align a cloud (N, 3) to another (M, 3) of roughly the same space, any unit.

    Args:
        source: (N, 3), what is moved.
        target: (M, 3), what stays.
        up_axis: the axis of the sweep's rotations.
        with_scale: whether sizes may differ by one factor.
        options: the numbers; the published ones, and the default for each open choice, if None.

    Raises:
        RowError: a cloud has fewer than 3 points, no extent, or numbers that are not finite.
        StageError: Open3D cannot be imported.
    """
    options = options or IcpOptions()
    check_up_axis(up_axis)
    pair = normalise_together(source, target)
    clouds = _Clouds.of(pair, options, normals=True)
    seeds = sweep_yaws(clouds, up_axis, options)
    seeded = seed_icp(clouds, seeds, with_scale, options)
    coarse = coarse_icp(clouds, seeded, with_scale, options)
    fine = _fine_icp(clouds, coarse, with_scale, options)
    return _validated(pair, clouds, fine, coarse, options)


def check_up_axis(up_axis: str) -> None:
    """Check the name of an axis.

    Raises:
        ConfigError: it is none of x, y and z.
    """
    if up_axis not in UP:
        raise ConfigError(f"robust_icp: up_axis is {up_axis!r}; expected 'x', 'y' or 'z'.")


def normalise_together(source: Points, target: Points) -> NormalisedPair:
    """Move both clouds by the mid-point, and shrink by the longest side, of their common box."""
    clouds = [_checked(points, name) for points, name in ((source, "source"), (target, "target"))]
    both = np.concatenate(clouds)
    low, high = both.min(axis=0), both.max(axis=0)
    shrink = 1.0 / float((high - low).max())
    to_normalised = similarity(shrink, np.eye(3), -shrink * (low + high) / 2)
    return NormalisedPair(
        transform_points(to_normalised, clouds[0]),
        transform_points(to_normalised, clouds[1]),
        to_normalised,
    )


def _checked(points: Points, name: str) -> Floats:
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) < 3:
        raise RowError(
            f"the {name} cloud has the shape {points.shape}; expected (N, 3) with at least three "
            "points. Sample more of its surface, or count it as missing."
        )
    if not np.isfinite(points).all():
        raise RowError(
            f"the {name} cloud of {len(points)} points has {(~np.isfinite(points)).any(1).sum()} "
            "that are not finite; expected numbers. Repair the geometry it was sampled from."
        )
    if not np.ptp(points, axis=0).max() > 0:
        raise RowError(
            f"the {len(points)} points of the {name} cloud are all {points[0].tolist()}; a cloud "
            "without extent has no pose. Count it as missing."
        )
    return points


@dataclass(frozen=True)
class _Clouds:
    """Open3D's clouds, with normals, at both resolutions."""

    source: Any
    target: Any
    source_coarse: Any
    target_coarse: Any

    @staticmethod
    def of(pair: NormalisedPair, options: IcpOptions, *, normals: bool) -> "_Clouds":
        """Voxel size v; normals on both resolutions (of the target: the source's are unused)."""
        source, target = open3d_icp.cloud(pair.source), open3d_icp.cloud(pair.target)
        source_coarse = open3d_icp.downsampled(source, options.voxel)
        target_coarse = open3d_icp.downsampled(target, options.voxel)
        for points in (target, target_coarse) if normals else ():
            open3d_icp.add_normals(points, 2 * options.voxel, options.normal_neighbours)
        return _Clouds(source, target, source_coarse, target_coarse)


def sweep_yaws(clouds: _Clouds, up_axis: UpAxis, options: IcpOptions) -> list[Floats]:
    """Return the starts (4, 4) of the best rotations, best first, by trimmed symmetric Chamfer."""
    rng = rng_for(options.seed, "robust_icp", "prescore")
    source, target = (
        _at_most(np.asarray(points.points), options.prescore_points, rng)
        for points in (clouds.source_coarse, clouds.target_coarse)
    )
    pivot, moved_to = _sweep_centres(source, target, options)
    starts = [
        about(rotation, pivot, moved_to) for rotation in axis_rotations(up_axis, options.num_yaws)
    ]
    scores = [
        trimmed_chamfer(
            transform_points(start, source), target, trim=options.trim, trim_as=options.trim_as
        )
        for start in starts
    ]
    best = np.argsort(scores, kind="stable")[: options.num_seeds]
    return [starts[index] for index in best]


def _at_most(points: Floats, num: int, rng: np.random.Generator) -> Floats:
    if len(points) <= num:
        return points
    return np.asarray(points[np.sort(rng.choice(len(points), num, replace=False))])


def _sweep_centres(source: Floats, target: Floats, options: IcpOptions) -> tuple[Floats, Floats]:
    if options.sweep_centre == "origin":
        return np.zeros(3), np.zeros(3)
    if options.sweep_centre == "centroid":
        return source.mean(axis=0), target.mean(axis=0)
    return (source.min(0) + source.max(0)) / 2, (target.min(0) + target.max(0)) / 2


def seed_icp(clouds: _Clouds, starts: list[Floats], with_scale: bool, options: IcpOptions) -> Match:
    """Return the best result of a short point-to-point ICP from each start (4, 4).

    The best has the smallest rmse + λ(1 − fitness), where λ is the voxel size.
    """
    matches = [
        open3d_icp.point_to_point(
            clouds.source_coarse,
            clouds.target_coarse,
            start,
            distance=2.5 * options.voxel,
            iterations=options.seed_iterations,
            with_scale=with_scale,
        )
        for start in starts
    ]
    penalty = options.voxel  # λ = v
    return min(matches, key=lambda match: match.rmse + penalty * (1 - match.fitness))


def coarse_icp(clouds: _Clouds, seeded: Match, with_scale: bool, options: IcpOptions) -> Match:
    """Run max(10, ⌊T/2⌋) point-to-point iterations at 2.5 v on the coarse clouds."""
    return open3d_icp.point_to_point(
        clouds.source_coarse,
        clouds.target_coarse,
        seeded.transform,
        distance=2.5 * options.voxel,
        iterations=_coarse_iterations(options),
        with_scale=with_scale,
    )


def _coarse_iterations(options: IcpOptions) -> int:
    return max(10, math.floor(0.5 * options.iterations))


def _fine_icp(clouds: _Clouds, coarse: Match, with_scale: bool, options: IcpOptions) -> Match:
    """Run the remaining iterations, at least 10, on the full clouds: point-to-plane, Tukey, at v.

    Point-to-plane ICP has no scale in Open3D. With scale the coarse result is therefore applied to
    the source first, and the fine ICP starts from the identity; the two are composed.
    """
    iterations = max(10, options.iterations - _coarse_iterations(options))
    source, start, before = clouds.source, coarse.transform, np.eye(4)
    if with_scale:
        moved = transform_points(coarse.transform, np.asarray(clouds.source.points))
        source, start, before = open3d_icp.cloud(moved), np.eye(4), coarse.transform
    if clouds.target.has_normals():
        fine = open3d_icp.point_to_plane(
            source,
            clouds.target,
            start,
            distance=options.voxel,
            iterations=iterations,
            tukey=1.5 * options.voxel,
        )
    else:
        fine = open3d_icp.point_to_point(
            source,
            clouds.target,
            start,
            distance=1.5 * options.voxel,
            iterations=iterations,
            with_scale=False,
        )
    return Match(fine.transform @ before, fine.fitness, fine.rmse)


def _validated(
    pair: NormalisedPair, clouds: _Clouds, fine: Match, coarse: Match, options: IcpOptions
) -> Registration:
    """Project to a proper similarity; fall back to coarse, then to the identity."""
    found: tuple[Floats, Phase] = (np.eye(4), "identity")
    for match, phase in ((fine, "fine"), (coarse, "coarse")):
        if is_valid(match.transform, options) and match.fitness > 0:
            projected = project_similarity(
                match.transform, allow_reflection=options.allow_reflection
            )
            found = (projected, "fine" if phase == "fine" else "coarse")
            break
    transform, phase_found = found
    fitness, rmse = fit_of(transform_points(transform, pair.source), pair.target, options.voxel)
    return Registration(pair.in_input_units(transform), fitness, rmse, phase_found)


def coarse_candidates(
    pair: NormalisedPair, up_axis: UpAxis, with_scale: bool, options: IcpOptions
) -> Floats:
    """Return the coarse results of both spaces, normalised units: (2, 4, 4).

    The second space's clouds each fill [−1, 1]³ by the longest side of their own box; what the
    first knows of relative size and place is lost in it, right or wrong.
    """
    found = []
    box_to_box = np.linalg.inv(own_box_to_unit(pair.target)) @ own_box_to_unit(pair.source)
    for start in (np.eye(4), box_to_box) if with_scale else (np.eye(4),):
        moved = normalise_together(transform_points(start, pair.source), pair.target)
        clouds = _Clouds.of(moved, options, normals=False)
        seeded = seed_icp(clouds, sweep_yaws(clouds, up_axis, options), with_scale, options)
        coarse = coarse_icp(clouds, seeded, with_scale, options)
        found.append(moved.in_input_units(coarse.transform) @ start)
    return np.array(found)


def is_valid(transform: Floats, options: IcpOptions) -> bool:
    """Return whether a transform (4, 4) of normalised units is finite, proper and near."""
    if not np.isfinite(transform).all():
        return False
    determinant = float(np.linalg.det(transform[:3, :3]))
    if options.allow_reflection:
        determinant = abs(determinant)
    low, high = options.max_scale**-3, options.max_scale**3
    moved = float(np.linalg.norm(transform[:3, 3]))
    return low <= determinant <= high and moved < options.max_translation


def fit_of(moved: Floats, target: Floats, distance: float) -> tuple[float, float]:
    """Return the share of points (N, 3) nearer than ``distance`` to (M, 3), and their rmse."""
    distances = cKDTree(target, leafsize=16, balanced_tree=False, compact_nodes=False).query(
        moved, distance_upper_bound=distance
    )[0]
    near = distances[np.isfinite(distances)]
    rmse = float(np.sqrt(np.mean(near**2))) if len(near) else 0.0
    return len(near) / len(moved), rmse
