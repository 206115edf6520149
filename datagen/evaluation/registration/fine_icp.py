"""The fine phase with scale free: symmetric point-to-plane ICP with Tukey's loss.

The robust ICP's fine phase is rigid, so that it keeps whatever scale the coarse phase ended with.
Here seven numbers are solved for: a small rotation ω, a shift t and log-scale s.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from datagen.core.frames import Floats, transform_points
from datagen.evaluation.registration.similarity import scale_of, similarity

DAMPING = 1e-4
"""Of the normal equations, relative to their trace: a plane does not fix where it slides to."""

STEP_TOLERANCE = 1e-5
"""Iterations end when no number changes by more; normalised units."""

NORMAL_NEIGHBOURS = 12
"""Points a plane is fitted to: of some 5,000 on a surface, as wide as 30 of 20,000 are."""


@dataclass(frozen=True)
class FineSurface:
    """A cloud and its planes."""

    tree: cKDTree
    points: Floats
    """(N, 3)."""
    normals: Floats
    """(N, 3), unit, either side."""
    spacing: float
    """Median distance of a point to the nearest other one."""


def fine_surface(points: Floats, *, most: int) -> FineSurface:
    """Return every k-th of points (N, 3), at most ``most`` of them, with fitted normals."""
    points = points[:: -(-len(points) // most)]
    tree = cKDTree(points, leafsize=16, balanced_tree=False, compact_nodes=False)
    distances, nearest = tree.query(points, k=min(NORMAL_NEIGHBOURS, len(points)))
    around = points[nearest] - points[nearest].mean(axis=1, keepdims=True)
    normals = np.linalg.eigh(around.transpose(0, 2, 1) @ around)[1][:, :, 0]
    return FineSurface(tree, points, normals, float(np.median(distances[:, 1])))


def fine_icp(
    start: Floats,
    source: FineSurface,
    target: FineSurface,
    *,
    distance: float,
    tukey: float,
    iterations: int,
    with_scale: bool,
    stride: int = 1,
) -> Floats:
    """Return a start (4, 4) after Gauss-Newton steps on both directions' plane distances.

    Every ``stride``-th point of each cloud is paired with its nearest point of the other cloud.

    Args:
        start: (4, 4), source to target.
        source: the surface that is moved.
        target: the fixed surface.
        distance: largest distance of a pair, in the target's unit.
        tukey: plane distance at which a pair's weight is zero, in the target's unit.
        iterations: maximum number of steps.
        with_scale: fit a similarity; False: a rigid motion.
        stride: only every stride-th point is used.
    """
    transform = start
    for _ in range(iterations):
        points, partners, normals = _pairs(transform, source, target, distance, stride)
        if len(points) < 7:
            break
        step = _step(points, partners, normals, tukey, with_scale)
        rotation = Rotation.from_rotvec(step[:3]).as_matrix()
        transform = similarity(float(np.exp(step[6])), rotation, step[3:6]) @ transform
        if np.abs(step).max() < STEP_TOLERANCE:
            break
    return transform


def _pairs(
    transform: Floats, source: FineSurface, target: FineSurface, distance: float, stride: int
) -> tuple[Floats, Floats, Floats]:
    """Return moved source points, their target partners and plane normals, each (K, 3)."""
    seeking = source.points[::stride], target.points[::stride]
    moved, back, scale = _both_ways(transform, *seeking)
    gaps, nearest = target.tree.query(moved, distance_upper_bound=distance)
    near = np.isfinite(gaps)
    nearest = nearest[near]
    forward = moved[near], target.points[nearest], target.normals[nearest]

    gaps, nearest = source.tree.query(back, distance_upper_bound=distance / scale)
    near = np.isfinite(gaps)
    nearest = nearest[near]
    normals = source.normals[nearest] @ (transform[:3, :3].T / scale)
    backward = transform_points(transform, source.points[nearest]), seeking[1][near], normals
    points, partners, planes = (
        np.concatenate(both) for both in zip(forward, backward, strict=True)
    )
    return points, partners, planes


def _step(
    points: Floats, partners: Floats, normals: Floats, tukey: float, with_scale: bool
) -> Floats:
    """Return the weighted least-squares step (ω, t, log s) of nᵀ(ω × p + t + s·p) = nᵀ(q − p)."""
    residuals = ((partners - points) * normals).sum(axis=1)
    weights = np.maximum(1 - (residuals / tukey) ** 2, 0.0) ** 2
    grown = (points * normals).sum(axis=1, keepdims=True) * with_scale
    rows = np.concatenate([np.cross(points, normals), normals, grown], axis=1)
    normal_matrix = (rows * weights[:, None]).T @ rows
    normal_matrix += np.eye(7) * (DAMPING * np.trace(normal_matrix) / 7 + 1e-12)
    return np.asarray(np.linalg.solve(normal_matrix, rows.T @ (weights * residuals)))


def truncated_squares(
    transform: Floats, source: FineSurface, target: FineSurface, limit: float, *, stride: int = 1
) -> float:
    """Return the sum of both directions' mean squared distances, each distance capped at a limit.

    So a part without a partner costs the same for every alignment, and all other parts count as
    in least squares. (A trimmed mean would prefer to fit one object perfectly and ignore the
    others.)

    Args:
        transform: (4, 4), source to target.
        source: the surface that is moved.
        target: the fixed surface.
        limit: largest distance that counts, in the target's unit.
        stride: only every stride-th point is used.
    """
    gaps = _gaps(transform, source, target, limit, stride)
    return sum(float(np.mean(np.minimum(one_way, limit) ** 2)) for one_way in gaps)


def median_gap(
    transform: Floats, source: FineSurface, target: FineSurface, limit: float, *, stride: int = 1
) -> float:
    """Return the median distance of two surfaces, each distance capped at a limit.

    Two samples of the same surface are about one point spacing apart. The square of the spacing
    is therefore subtracted from the square of the distance.

    Args:
        transform: (4, 4), source to target.
        source: the surface that is moved.
        target: the fixed surface.
        limit: largest distance that counts, in the target's unit.
        stride: only every stride-th point is used.
    """
    spacings = target.spacing, source.spacing * scale_of(transform)
    squares = [
        np.median(np.minimum(gaps, limit)) ** 2 - spacing**2
        for gaps, spacing in zip(
            _gaps(transform, source, target, limit, stride), spacings, strict=True
        )
    ]
    return math.sqrt(max(0.0, float(np.mean(squares))))


def _gaps(
    transform: Floats, source: FineSurface, target: FineSurface, limit: float, stride: int
) -> tuple[Floats, Floats]:
    """Return each direction's distances (N,), in the target's unit; inf for those beyond."""
    moved, back, scale = _both_ways(transform, source.points[::stride], target.points[::stride])
    forward = target.tree.query(moved, distance_upper_bound=limit)[0]
    backward = source.tree.query(back, distance_upper_bound=limit / scale)[0] * scale
    return forward, backward


def _both_ways(transform: Floats, source: Floats, target: Floats) -> tuple[Floats, Floats, float]:
    """Return the source moved on, the target moved back, and the factor of the way on."""
    back = transform_points(np.linalg.inv(transform), target)
    return transform_points(transform, source), back, scale_of(transform)
