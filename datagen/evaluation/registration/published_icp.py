"""The alignments that other methods' published scores were taken after, as they were published."""

import numpy as np
import torch
from scipy.spatial import cKDTree

from datagen.core.frames import Floats, transform_points
from datagen.evaluation.points import Points
from datagen.evaluation.registration.similarity import fit_similarity, similarity

FILTERREG_POINTS = 2048
"""Most points for exact Gaussian sums; the published code approximates them on a lattice."""


def midi_icp(
    source: Points,
    target: Points,
    *,
    as_published: bool = True,
    iterations: int = 50,
    tolerance: float = 1e-5,
) -> Floats:
    """Return MIDI-3D's rigid alignment (4, 4) of points (N, 3) to (M, 3): plain ICP from identity.

    The published code uses the V of ``torch.svd`` as if it were Vᵀ. So it rotates by VᵀUᵀ where
    VUᵀ is correct, and rotates even two equal clouds against each other.

    Args:
        source: (N, 3).
        target: (M, 3).
        as_published: keep that error; False: rotate by VUᵀ.
        iterations: maximum number.
        tolerance: it ends when the mean distance changes by less, in the target's unit.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    tree, total, previous = cKDTree(target), np.eye(4), np.inf
    for _ in range(iterations):
        moved = transform_points(total, source)
        distances, nearest = tree.query(moved)
        partners = target[nearest]
        total = (_misread if as_published else _meant)(moved, partners) @ total
        mean = float(distances.mean())
        if abs(previous - mean) < tolerance:
            break
        previous = mean
    return total


def _meant(source: Floats, target: Floats) -> Floats:
    return fit_similarity(source, target, with_scale=False)


def _misread(source: Floats, target: Floats) -> Floats:
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    left, _, right = np.linalg.svd((source - source_mean).T @ (target - target_mean))
    rotation = right @ left.T  # right is Vᵀ; VUᵀ would be right.T @ left.T
    return similarity(1.0, rotation, target_mean - rotation @ source_mean)


def filterreg(
    source: Points, target: Points, *, iterations: int = 200, tolerance: float = 1e-3
) -> Floats:
    """Return FilterReg's rigid point-to-point alignment (4, 4) of (N, 3) to (M, 3), from identity.

    The method of Gao and Tedrake (CVPR 2019), without outliers, and with an updated variance. It
    ends as in probreg, which SceneGen calls.

    Args:
        source: (N, 3).
        target: (M, 3).
        iterations: maximum number.
        tolerance: it ends when the cost changes by less; the default is probreg's.
    """
    source_N3, target_M3 = (_at_most(np.asarray(points, np.float64)) for points in (source, target))
    offsets = target_M3.mean(axis=0) - source_N3.mean(axis=0)
    variance = float(source_N3.var(axis=0).mean() + target_M3.var(axis=0).mean())
    variance += float((offsets**2).mean())  # the mean of all pairs' squared distances, an axis
    total, previous = np.eye(4), np.inf
    for _ in range(iterations):
        moved = transform_points(total, source_N3)
        means, mean_squares = _blurred(moved, target_M3, variance)
        residuals = (moved - means).sum(axis=1)  # over x, y and z of each point, as in probreg
        cost = float(residuals @ residuals) / variance * (len(source) / len(source_N3))
        total = fit_similarity(moved, means, with_scale=False) @ total
        squares = (moved**2).sum(axis=1) - 2 * (moved * means).sum(axis=1) + mean_squares
        variance = max(float(squares.mean()), 1e-8)
        if abs(cost - previous) < tolerance:
            break
        previous = cost
    return total


def _at_most(points: Floats) -> Floats:
    return points[:: -(-len(points) // FILTERREG_POINTS)]


def _blurred(points: Floats, target: Floats, variance: float) -> tuple[Floats, Floats]:
    """Return the Gaussian-weighted means (N, 3) of target points, and of their squared norms."""
    at, to = torch.as_tensor(points), torch.as_tensor(target)
    # −|x − y|²/2σ² but for |x|², which is the same along a row.
    weights_NM = torch.softmax((at @ to.T - (to**2).sum(1) / 2) / variance, dim=1)
    return (weights_NM @ to).numpy(), (weights_NM @ (to**2).sum(1)).numpy()
