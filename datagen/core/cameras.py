"""Pinhole cameras: OpenCV axes, intrinsics in pixels, pixel centres at (0.5, 0.5)."""

import numpy as np

from datagen.core.frames import AnyFloats, AnyIntegers, Floats, transform_points


def intrinsics_from_fov(fov_rad: float, width: int, height: int) -> Floats:
    """Return the (3, 3) intrinsics, pixels, of a camera whose longer image side spans the fov.

    The principal point is the image centre.
    """
    focal_px = max(width, height) / 2 / np.tan(fov_rad / 2)
    return np.array([[focal_px, 0.0, width / 2], [0.0, focal_px, height / 2], [0.0, 0.0, 1.0]])


def look_at(eye_m: AnyFloats, target_m: AnyFloats) -> Floats:
    """Return the world-to-camera matrix (4, 4) of a camera at eye (3,) that looks at target (3,).

    No roll: the camera's right axis lies in the ground plane; straight above or below the
    target it is world +X.
    """
    eye = np.asarray(eye_m, np.float64)
    forward = np.asarray(target_m, np.float64) - eye
    forward /= np.linalg.norm(forward)
    right = np.array([forward[1], -forward[0], 0.0])  # forward × up
    length = np.linalg.norm(right)
    right = right / length if length > 1e-9 else np.array([1.0, 0.0, 0.0])
    down = np.cross(forward, right)
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3] = np.stack([right, down, forward])
    world_to_camera[:3, 3] = -world_to_camera[:3, :3] @ eye
    return world_to_camera


def camera_position(world_to_camera: Floats) -> Floats:
    """Return the camera centre (3,), metres, world."""
    return -world_to_camera[:3, :3].T @ world_to_camera[:3, 3]


def project(points_m: AnyFloats, world_to_camera: Floats, intrinsics: Floats) -> Floats:
    """Project world points (N, 3) to (N, 3): u, v in pixels and ``depth_z`` in metres."""
    in_camera = transform_points(world_to_camera, points_m)
    depth_z = in_camera[:, 2]
    uv = in_camera @ intrinsics.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.column_stack([uv[:, :2] / uv[:, 2:], depth_z])


def pixel_rays(
    world_to_camera: Floats, intrinsics: Floats, columns: AnyIntegers, rows: AnyIntegers
) -> tuple[Floats, Floats]:
    """Return origin (3,) and unit directions (N, 3), world, through the centres of N pixels."""
    in_camera = np.column_stack(
        [
            (columns + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0],
            (rows + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1],
            np.ones(len(columns)),
        ]
    )
    directions = in_camera @ world_to_camera[:3, :3]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return camera_position(world_to_camera), directions


def distance_to_frame(radius_m: float, fov_rad: float) -> float:
    """Return the distance at which a sphere about the target just fits a square image, metres."""
    return radius_m / float(np.sin(fov_rad / 2))
