"""Similarity transforms (4, 4): fitted to pairs of points, put together, and kept proper."""

from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

from datagen.core.frames import Floats

UpAxis = Literal["x", "y", "z"]
UP: dict[UpAxis, int] = {"x": 0, "y": 1, "z": 2}


def similarity(scale: float, rotation: Floats, translation: Floats) -> Floats:
    """Return the (4, 4) matrix of p → scale · rotation (3, 3) · p + translation (3,)."""
    matrix = np.eye(4)
    matrix[:3, :3] = scale * rotation
    matrix[:3, 3] = translation
    return matrix


def about(rotation: Floats, pivot: Floats, moved_to: Floats) -> Floats:
    """Return the (4, 4) rotation by (3, 3) that takes the pivot (3,) to ``moved_to`` (3,)."""
    return similarity(1.0, rotation, moved_to - rotation @ pivot)


def scale_of(transform: Floats) -> float:
    """Return the factor by which a (4, 4) transform grows lengths: the cube root of |det|."""
    return float(np.cbrt(abs(np.linalg.det(transform[:3, :3]))))


def range_to_unit(low: float, high: float) -> Floats:
    """Return the (4, 4) transform of coordinates in [low, high] to [−1, 1]."""
    scale = 2.0 / (high - low)
    return similarity(scale, np.eye(3), np.full(3, -scale * (low + high) / 2))


def own_box_to_unit(points: Floats, *, per_axis: bool = False) -> Floats:
    """Return the (4, 4) transform of a cloud's (N, 3) own box to the middle of [−1, 1]³.

    The longest side becomes 2; with ``per_axis`` every side that has a length does.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    sides = high - low
    longest = sides.max()
    divisors = np.where(sides > 1e-9 * longest, sides, longest) if per_axis else longest
    return similarity(1.0, np.diag(np.ones(3) * (2.0 / divisors)), -(low + high) / divisors)


def axis_rotations(up_axis: UpAxis, num: int) -> Floats:
    """Return ``num`` evenly spaced rotations about an axis, the identity first: (num, 3, 3)."""
    angles = np.arange(num) * (2 * np.pi / num)
    return np.asarray(Rotation.from_rotvec(angles[:, None] * np.eye(3)[UP[up_axis]]).as_matrix())


def evenly_spaced_rotations(num: int) -> Floats:
    """Return ``num`` rotations evenly spaced over SO(3), the first near the identity: (num, 3, 3).

    Super-Fibonacci spirals (Alexa, CVPR 2022): quaternion i has the radii √(s/n), √(1 − s/n) and
    the angles 2πs/φ, 2πs/ψ, s = i + 1/2, φ = √2, ψ⁴ = ψ + 4. All are then
    multiplied by the inverse of the first.
    """
    s = np.arange(num) + 0.5
    radius, rest = np.sqrt(s / num), np.sqrt(1 - s / num)
    alpha, beta = 2 * np.pi * s / np.sqrt(2.0), 2 * np.pi * s / 1.533751168755204288118041
    quaternions = np.stack(
        [radius * np.sin(alpha), radius * np.cos(alpha), rest * np.sin(beta), rest * np.cos(beta)],
        axis=1,
    )
    rotations = Rotation.from_quat(quaternions)
    return np.asarray((rotations * rotations[0].inv()).as_matrix())


def project_rotation(linear: Floats, *, allow_reflection: bool = False) -> Floats:
    """Return the rotation (3, 3) nearest to a linear map (3, 3), by singular values.

    Its determinant is +1; with ``allow_reflection`` it may be −1 where the map mirrors.
    """
    left, _, right = np.linalg.svd(linear)
    if np.linalg.det(left @ right) < 0 and not allow_reflection:
        left[:, -1] *= -1
    return np.asarray(left @ right)


def project_similarity(transform: Floats, *, allow_reflection: bool = False) -> Floats:
    """Return the (4, 4) transform with its linear part made scale times rotation."""
    rotation = project_rotation(transform[:3, :3], allow_reflection=allow_reflection)
    return similarity(scale_of(transform), rotation, transform[:3, 3])


def fit_similarity(source: Floats, target: Floats, *, with_scale: bool = True) -> Floats:
    """Return the (4, 4) transform of points (N, 3) that is nearest to their partners (N, 3).

    Least squares after Umeyama (1991): with the centred covariance UDVᵀ of target and source,
    R = U·diag(1, 1, det UVᵀ)·Vᵀ and scale = tr(D·diag(1, 1, det UVᵀ)) / var(source).
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centred = source - source_mean
    left, values, right = np.linalg.svd((target - target_mean).T @ centred)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = (left * signs) @ right
    scale = float((values * signs).sum() / (centred**2).sum()) if with_scale else 1.0
    return similarity(scale, rotation, target_mean - scale * rotation @ source_mean)
