"""The few calls of Open3D that the robust ICP is made of. Open3D is imported here alone."""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from datagen.core.frames import Floats
from datagen.errors import StageError


@dataclass(frozen=True)
class Match:
    """What one run of ICP ended with."""

    transform: Floats
    """(4, 4), source to target."""

    fitness: float
    """Share of source points with a target point within the distance."""

    rmse: float
    """Of those, in the units of the points."""


def require_open3d() -> Any:
    """Return the module ``open3d``.

    Raises:
        StageError: it is not installed, or a system library that it loads is missing.
    """
    try:
        return importlib.import_module("open3d")
    except (ImportError, OSError) as error:
        raise StageError(
            f"robust_icp: open3d cannot be imported ({error}); the literal path of the robust ICP "
            "runs in it. Install the extra `evaluate` (pip install 'datagen[evaluate]') and the "
            "system libraries libusb-1.0-0 and libgl1 (apt-get install libusb-1.0-0 libgl1)."
        ) from error


def cloud(points: Floats) -> Any:
    """Return points (N, 3) as an Open3D cloud."""
    open3d = require_open3d()
    return open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))


def downsampled(full: Any, voxel: float) -> Any:
    """Return the mean point of each voxel of that side."""
    return full.voxel_down_sample(voxel)


def add_normals(points: Any, radius: float, neighbours: int) -> None:
    """Estimate normals in place, from at most ``neighbours`` points within the radius."""
    open3d = require_open3d()
    points.estimate_normals(open3d.geometry.KDTreeSearchParamHybrid(radius, neighbours))


def point_to_point(
    source: Any, target: Any, start: Floats, *, distance: float, iterations: int, with_scale: bool
) -> Match:
    """Return the result of point-to-point ICP from a start (4, 4).

    Args:
        source: Open3D cloud that is moved.
        target: the fixed Open3D cloud.
        start: (4, 4), source to target.
        distance: largest distance of a pair, in the target's unit.
        iterations: maximum number.
        with_scale: fit a similarity; False: a rigid motion.

    Raises:
        StageError: Open3D cannot be imported.
    """
    registration = require_open3d().pipelines.registration
    estimation = registration.TransformationEstimationPointToPoint(with_scale)
    return _run(source, target, start, distance, iterations, estimation)


def point_to_plane(
    source: Any, target: Any, start: Floats, *, distance: float, iterations: int, tukey: float
) -> Match:
    """Return the result of rigid point-to-plane ICP with Tukey's loss, from a start (4, 4).

    Args:
        source: Open3D cloud that is moved.
        target: the fixed Open3D cloud, with normals.
        start: (4, 4), source to target.
        distance: largest distance of a pair, in the target's unit.
        iterations: maximum number.
        tukey: plane distance at which a pair's weight is zero, in the target's unit.

    Raises:
        StageError: Open3D cannot be imported.
    """
    registration = require_open3d().pipelines.registration
    loss = registration.TukeyLoss(k=tukey)
    estimation = registration.TransformationEstimationPointToPlane(loss)
    return _run(source, target, start, distance, iterations, estimation)


def _run(
    source: Any, target: Any, start: Floats, distance: float, iterations: int, estimation: Any
) -> Match:
    registration = require_open3d().pipelines.registration
    result = registration.registration_icp(
        source,
        target,
        distance,
        start,
        estimation,
        registration.ICPConvergenceCriteria(max_iteration=iterations),
    )
    return Match(np.array(result.transformation), float(result.fitness), float(result.inlier_rmse))
