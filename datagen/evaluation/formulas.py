"""The formulas of scores: distances of point clouds, and overlaps of voxel grids and boxes.

The literature has several formulas for one name, so the formula is part of the name. With
d(p, Q) = min_q ‖p − q‖,

    cd_sq_sum  = mean_p d(p, Q)² + mean_q d(q, P)²        MIDI-3D, SceneGen
    cd_l2_mean = (mean_p d(p, Q) + mean_q d(q, P)) / 2    Gen3DSR, 3D-Fixer
    f_score(τ) = 2PR / (P + R), P = share of p with d(p, Q) < τ, R = share of q with d(q, P) < τ

Thresholds and distances are in the units of the points; scores are only comparable in one space
(``scene.py`` states it).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes
from scipy.spatial import cKDTree

from datagen.core.frames import Floats
from datagen.core.meshes import Mesh
from datagen.errors import RowError
from datagen.evaluation.points import Points
from datagen.voxels import voxelize_surface

Chamfer = Literal["cd_sq_sum", "cd_l2_sum", "cd_l2_mean"]
"""A formula of the Chamfer distance; ``cd_l2_sum`` is twice ``cd_l2_mean`` (PartCrafter)."""

MIN_BOX_SIDE = 1e-6
"""A flat object's box is widened to this, so that its overlap with itself is 1 and not 0/0."""


def cd_sq_sum(predicted: Points, true: Points) -> float:
    """Return the squared Chamfer distance of (N, 3) and (M, 3), both directions' means added."""
    return chamfer(*nearest_distances(predicted, true), "cd_sq_sum")


def cd_l2_mean(predicted: Points, true: Points) -> float:
    """Return the Chamfer distance of (N, 3) and (M, 3), the mean of both directions' means."""
    return chamfer(*nearest_distances(predicted, true), "cd_l2_mean")


def f_score(predicted: Points, true: Points, tau: float) -> float:
    """Return the F-score in [0, 1] of points (N, 3) against (M, 3); distances below tau are hits.

    Args:
        predicted: (N, 3).
        true: (M, 3), in the same frame and unit.
        tau: in the points' unit.
    """
    return f_score_at(*nearest_distances(predicted, true), tau)


def chamfer(forward: Floats, backward: Floats, formula: Chamfer) -> float:
    """Return the Chamfer distance by a formula, from the distances of both directions.

    Args:
        forward: (N,), of each predicted point to its nearest true one.
        backward: (M,), of each true point to its nearest predicted one.
        formula: which of them; the unit is that of the distances, squared for ``cd_sq_sum``.
    """
    if formula == "cd_sq_sum":
        return float(np.mean(forward**2) + np.mean(backward**2))
    total = float(np.mean(forward) + np.mean(backward))
    return total if formula == "cd_l2_sum" else total / 2


def hits(distances: Floats, tau: float) -> float:
    """Return the share in [0, 1] of distances (N,) below tau."""
    return float(np.mean(distances < tau))


def f_score_at(forward: Floats, backward: Floats, tau: float) -> float:
    """Return the F-score in [0, 1] from distances (N,) and (M,); 0 where nothing is below tau."""
    precision, recall = hits(forward, tau), hits(backward, tau)
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def nearest_distances(first: Points, second: Points) -> tuple[Floats, Floats]:
    """Return the distances (N,) of first to second and (M,) of second to first.

    Raises:
        RowError: a cloud is empty or not finite.
    """
    first, second = _cloud(first, "first"), _cloud(second, "second")
    first_tree, second_tree = _tree(first), _tree(second)
    return second_tree.query(first)[0], first_tree.query(second)[0]


def voxel_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return intersection over union of two grids (R, R, R) of the same frame, in [0, 1].

    Raises:
        RowError: the grids differ in shape, or both are empty.
    """
    if first.shape != second.shape:
        raise RowError(
            f"voxel grids of the shapes {first.shape} and {second.shape} have no overlap to count; "
            "expected one shape. Decode both at one resolution."
        )
    union = np.count_nonzero(first | second)
    if union == 0:
        raise RowError(
            f"two voxel grids of the shape {first.shape} are both empty: intersection over union "
            "is undefined; the true one must hold a voxel. Leave the object out."
        )
    return np.count_nonzero(first & second) / union


def box_iou(first: Points, second: Points) -> float:
    """Return the overlap in [0, 1] of the axis-aligned boxes of points (N, 3) and (M, 3).

    Sides shorter than MIN_BOX_SIDE count as that long, about their centre.

    Raises:
        RowError: a cloud is empty or not finite.
    """
    low_1, high_1 = _box(_cloud(first, "first"))
    low_2, high_2 = _box(_cloud(second, "second"))
    sides = np.minimum(high_1, high_2) - np.maximum(low_1, low_2)
    intersection = float(np.prod(np.maximum(sides, 0.0)))
    union = float(np.prod(high_1 - low_1) + np.prod(high_2 - low_2)) - intersection
    return min(intersection / union, 1.0)


def self_overlap(parts: Sequence[Mesh]) -> float:
    """Return the mean voxel IoU of all pairs of parts in [−1, 1]³, filled, 64 voxels a side.

    PartCrafter's IoU: how much the parts of a prediction overlap. 0 is best; a single part has 0.

    Args:
        parts: vertices (V, 3) in [−1, 1] and faces (F, 3) of each.
    """
    grids = [
        binary_fill_holes(
            voxelize_surface(
                np.clip(np.asarray(vertices, np.float64) / 2, -0.5 + 1e-9, 0.5 - 1e-9),
                np.asarray(faces, np.int32),
                64,
            )
        )
        for vertices, faces in parts
    ]
    overlaps = [
        float((first & second).sum() / max((first | second).sum(), 1))
        for index, first in enumerate(grids)
        for second in grids[index + 1 :]
    ]
    return float(np.mean(overlaps)) if overlaps else 0.0


def _cloud(points: Points, which: str) -> Floats:
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0:
        raise RowError(
            f"the {which} cloud has the shape {points.shape}; expected (N, 3) with at least one "
            "point. Sample a surface that exists, and count a missing instance as missing."
        )
    if not np.isfinite(points).all():
        raise RowError(
            f"the {which} cloud of {len(points)} points has {(~np.isfinite(points)).any(1).sum()} "
            "that are not finite; expected numbers. Repair the geometry it was sampled from."
        )
    return points


def _tree(points: Floats) -> cKDTree:
    # Sliding-midpoint trees without node shrinking build about three times as fast.
    return cKDTree(points, leafsize=16, balanced_tree=False, compact_nodes=False)


def _box(points: Floats) -> tuple[Floats, Floats]:
    low, high = points.min(axis=0), points.max(axis=0)
    widen = np.maximum(MIN_BOX_SIDE - (high - low), 0.0) / 2
    return low - widen, high + widen
