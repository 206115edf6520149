"""Seeded points on triangle surfaces, the clouds that Chamfer distance and F-score compare."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.core.frames import Floats
from datagen.core.meshes import Mesh
from datagen.errors import RowError

Points = NDArray[np.floating[Any]]
"""(N, 3), any float dtype."""

POINTS_PER_OBJECT = 20_480
"""As MIDI-3D, SceneGen and 3D-Fixer sample: equally many an object, whatever its size."""


def sample_surface(mesh: Mesh, num_points: int, rng: np.random.Generator) -> Floats:
    """Return points (num_points, 3) sampled uniformly by area, in the mesh's own frame.

    Args:
        mesh: vertices (V, 3) and faces (F, 3).
        num_points: how many.
        rng: the random stream.

    Raises:
        RowError: the mesh has no faces, no area, a coordinate that is not finite, or a face that
            names a vertex it does not have.
    """
    triangles = triangles_of(mesh)
    edge_u, edge_v = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    areas = np.linalg.norm(np.cross(edge_u, edge_v), axis=1) / 2
    cumulative = np.cumsum(areas)
    if not cumulative[-1] > 0:
        raise RowError(
            f"a mesh of {len(triangles)} faces has the area {cumulative[-1]}; points need a "
            "surface with an area. Leave the object out or repair its geometry."
        )
    # side="right" never picks a face without area.
    faces = np.searchsorted(cumulative, rng.random(num_points) * cumulative[-1], side="right")
    faces = np.minimum(faces, np.flatnonzero(areas)[-1])
    u, v = rng.random((2, num_points, 1))
    beyond = u + v > 1  # fold the far half of the parallelogram back: uniform over the triangle
    u, v = np.where(beyond, 1 - u, u), np.where(beyond, 1 - v, v)
    return np.asarray(triangles[faces, 0] + u * edge_u[faces] + v * edge_v[faces])


def used_vertices(mesh: Mesh) -> Floats:
    """Return the vertices (K, 3) that a face names; stray ones would widen a box."""
    return np.asarray(np.asarray(mesh[0], np.float64)[np.unique(mesh[1])])


def triangles_of(mesh: Mesh) -> Floats:
    """Return the corners (F, 3, 3) of a mesh's faces, in its own frame.

    Raises:
        RowError: there are no faces, one names a vertex that is not there, or a vertex that a face
            names is not finite.
    """
    vertices, faces = np.asarray(mesh[0], np.float64), np.asarray(mesh[1])
    if len(faces) == 0:
        raise RowError(
            f"a mesh of {len(vertices)} vertices has 0 faces; points are taken from faces. "
            "Pass None for an instance that is missing."
        )
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise RowError(
            f"a mesh of {len(vertices)} vertices has faces that name the vertices {faces.min()} to "
            f"{faces.max()}; expected 0 to {len(vertices) - 1}. Repair its geometry."
        )
    triangles: Floats = vertices[faces]
    if not np.isfinite(triangles).all():
        raise RowError(
            f"a mesh of {len(vertices)} vertices has {(~np.isfinite(vertices)).any(1).sum()} that "
            "are not finite; expected numbers. Repair its geometry."
        )
    return triangles
