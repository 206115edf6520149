"""Conversions between frames.

World: right-handed, Z up, metres. Cameras: OpenCV axes (+X right, +Y down, +Z forward). Names in
Blender's camera axes (+X right, +Y up, -Z forward) end in ``_gl``. Vectors are columns:
``p_b = a_to_b @ p_a``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
AnyFloats = NDArray[np.floating[Any]]
AnyIntegers = NDArray[np.integer[Any]]

GL_TO_CV: Floats = np.diag([1.0, -1.0, -1.0, 1.0])
"""(4, 4): rotation by 180° about the camera's X axis. It is its own inverse."""

Z_UP_TO_Y_UP: Floats = np.array(
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
"""(4, 4): (x, y, z) -> (x, z, -y), for writing glTF and OBJ."""

Y_UP_TO_Z_UP: Floats = Z_UP_TO_Y_UP.T.copy()
"""(4, 4): (x, y, z) -> (x, -z, y), for reading glTF and OBJ."""


def camera_to_world_gl(world_to_camera: Floats) -> Floats:
    """Return the ``matrix_world`` (4, 4) float64 of a Blender camera.

    Args:
        world_to_camera: (4, 4), z_up world to cv camera.
    """
    return np.linalg.inv(world_to_camera) @ GL_TO_CV


def transform_points(matrix: Floats, points: AnyFloats) -> Floats:
    """Return the points after an affine transform, (N, 3) float64.

    Args:
        matrix: (4, 4), from the points' frame to another one.
        points: (N, 3).
    """
    moved: Floats = np.asarray(points, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    return moved


def yaw_rotation(yaw_rad: float) -> Floats:
    """Return the rotation (3, 3) float64 about the Z axis, counter-clockwise seen from +Z.

    Args:
        yaw_rad: radians.
    """
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def placement_matrix(position_m: AnyFloats, yaw_rad: float, scale: float) -> Floats:
    """Return ``asset_to_world`` (4, 4) float64: world point = position + Rz(yaw)·(scale·vertex).

    Args:
        position_m: (3,), metres, z_up world: where the asset's origin stands.
        yaw_rad: rotation about the Z axis, radians.
        scale: factor on the asset's size.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = scale * yaw_rotation(yaw_rad)
    matrix[:3, 3] = position_m
    return matrix
