"""Changes of frame, each in one named place.

World: right-handed, Z up, metres. Cameras: OpenCV axes (+X right, +Y down, +Z forward); Blender's
own camera axes (+X right, +Y up, -Z forward) carry the suffix ``_gl``. Column vectors:
``p_b = a_to_b @ p_a``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
AnyFloats = NDArray[np.floating[Any]]
AnyIntegers = NDArray[np.integer[Any]]

GL_TO_CV: Floats = np.diag([1.0, -1.0, -1.0, 1.0])
"""Half turn about the camera's own X axis. Its own inverse."""

Z_UP_TO_Y_UP: Floats = np.array(
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
"""(x, y, z) -> (x, z, -y), the way into glTF and OBJ."""

Y_UP_TO_Z_UP: Floats = Z_UP_TO_Y_UP.T.copy()
"""(x, y, z) -> (x, -z, y), the way out of glTF and OBJ."""


def world_to_camera_from_blender(camera_to_world_gl: Floats) -> Floats:
    """Turn a Blender camera's ``matrix_world`` (4, 4) into an OpenCV extrinsic matrix (4, 4)."""
    return np.linalg.inv(camera_to_world_gl @ GL_TO_CV)


def camera_to_world_gl(world_to_camera: Floats) -> Floats:
    """Turn an OpenCV extrinsic matrix (4, 4) into a Blender camera's ``matrix_world`` (4, 4)."""
    return np.linalg.inv(world_to_camera) @ GL_TO_CV


def transform_points(matrix: Floats, points: AnyFloats) -> Floats:
    """Apply a (4, 4) affine matrix to (N, 3) points; returns (N, 3) float64."""
    moved: Floats = np.asarray(points, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    return moved


def yaw_rotation(yaw_rad: float) -> Floats:
    """Return the (3, 3) rotation about the up axis, counter-clockwise seen from +Z."""
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def placement_matrix(position_m: AnyFloats, yaw_rad: float, scale: float) -> Floats:
    """Return the (4, 4) asset-to-world matrix: world point = position + Rz(yaw)·(scale·vertex)."""
    matrix = np.eye(4)
    matrix[:3, :3] = scale * yaw_rotation(yaw_rad)
    matrix[:3, 3] = position_m
    return matrix
