"""Pinhole cameras: OpenCV axes, intrinsics in pixels, pixel centres at (0.5, 0.5)."""

import numpy as np

from datagen.core.frames import AnyFloats, AnyIntegers, Floats, transform_points


def intrinsics_from_fov(fov_rad: float, width: int, height: int) -> Floats:
    """Return the (3, 3) float64 intrinsics, pixels, of a camera with the given field of view.

    The principal point is the image centre.

    Args:
        fov_rad: field of view along the longer image side, radians.
        width: image width, pixels.
        height: image height, pixels.
    """
    focal_px = max(width, height) / 2 / np.tan(fov_rad / 2)
    return np.array([[focal_px, 0.0, width / 2], [0.0, focal_px, height / 2], [0.0, 0.0, 1.0]])


def look_at(eye_m: AnyFloats, target_m: AnyFloats) -> Floats:
    """Return ``world_to_camera`` (4, 4) float64 of a camera that looks at a target.

    The camera has no roll: its right axis lies in the ground plane. Straight above or below the
    target, the right axis is world +X.

    Args:
        eye_m: (3,), metres, z_up world: the camera centre.
        target_m: (3,), metres, z_up world; different from the eye.
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
    """Return the camera centre (3,) float64, metres, z_up world.

    Args:
        world_to_camera: (4, 4), z_up world to cv camera.
    """
    return -world_to_camera[:3, :3].T @ world_to_camera[:3, 3]


def project(points_m: AnyFloats, world_to_camera: Floats, intrinsics: Floats) -> Floats:
    """Return where points appear in an image, (N, 3) float64: u, v, pixels, and depth_z, metres.

    u and v have no meaning where depth_z is not positive: the point is behind the camera.

    Args:
        points_m: (N, 3), metres, z_up world.
        world_to_camera: (4, 4), z_up world to cv camera.
        intrinsics: (3, 3), pixels.
    """
    in_camera = transform_points(world_to_camera, points_m)
    depth_z = in_camera[:, 2]
    uv = in_camera @ intrinsics.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.column_stack([uv[:, :2] / uv[:, 2:], depth_z])


def pixel_rays(
    world_to_camera: Floats, intrinsics: Floats, columns: AnyIntegers, rows: AnyIntegers
) -> tuple[Floats, Floats]:
    """Return the rays through N pixel centres: origin (3,), metres, and unit directions (N, 3).

    Both are float64, z_up world.

    Args:
        world_to_camera: (4, 4), z_up world to cv camera.
        intrinsics: (3, 3), pixels.
        columns: (N,), pixels from the left.
        rows: (N,), pixels from the top.
    """
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
    """Return the camera distance, metres, at which a sphere just fits a square image.

    Args:
        radius_m: radius of the sphere, metres; the camera looks at its centre.
        fov_rad: field of view, radians.
    """
    return radius_m / float(np.sin(fov_rad / 2))
