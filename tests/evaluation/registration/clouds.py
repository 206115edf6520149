"""Two samplings of one chair, and a cloud moved by a known pose."""

import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from datagen.core.frames import transform_points
from datagen.evaluation import sample_surface
from datagen.evaluation.registration.similarity import similarity


def chair(num: int, seed: int):
    """Return points of a seat, a back, an arm and two legs: a shape without symmetry."""
    parts = [
        trimesh.creation.box((0.6, 0.5, 0.08)).apply_translation((0, 0, 0.0)),
        trimesh.creation.box((0.6, 0.08, 0.5)).apply_translation((0, 0.25, 0.25)),
        trimesh.creation.box((0.08, 0.3, 0.2)).apply_translation((0.3, 0, 0.15)),
        trimesh.creation.box((0.08, 0.08, 0.4)).apply_translation((-0.25, -0.2, -0.2)),
        trimesh.creation.box((0.08, 0.08, 0.4)).apply_translation((0.25, 0.2, -0.2)),
    ]
    mesh = trimesh.util.concatenate(parts)
    return sample_surface((mesh.vertices, mesh.faces), num, np.random.default_rng(seed))


def rotated(points, yaw_deg: float, scale: float = 1.0, shift=(0.0, 0.0, 0.0), axis: int = 2):
    rotation = Rotation.from_rotvec(np.radians(yaw_deg) * np.eye(3)[axis]).as_matrix()
    pose = similarity(scale, rotation, np.asarray(shift, float))
    return transform_points(pose, points), np.linalg.inv(pose)


TARGET = chair(6000, 0)


SOURCE = chair(6000, 1)
