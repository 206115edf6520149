"""Winding numbers of a surface about points: 1 inside a closed one, fractions near an open one."""

import numpy as np

from datagen.core.frames import Floats
from datagen.core.meshes import Mesh
from datagen.evaluation.points import Points, triangles_of

CHUNK = 2_000_000
"""Point-triangle pairs held at once."""


def winding_numbers(points: Points, mesh: Mesh) -> Floats:
    """Return the generalised winding number of a mesh about points (N, 3): (N,).

    The sum over triangles of their solid angles over 4π (Jacobson et al., SIGGRAPH 2013), each by
    Van Oosterom and Strackee (1983): with a, b, c from the point to the corners,
    tan(Ω/2) = a·(b × c) / (|a||b||c| + (a·b)|c| + (b·c)|a| + (c·a)|b|). Negative where the faces
    are oriented inwards.

    Raises:
        RowError: the mesh has no faces, or a coordinate that is not finite.
    """
    triangles = triangles_of(mesh)
    points = np.asarray(points, np.float64)
    step = max(1, CHUNK // len(triangles))
    chunks = [_of(points[start : start + step], triangles) for start in range(0, len(points), step)]
    return np.concatenate(chunks) if chunks else np.zeros(0)


def _of(points: Floats, triangles: Floats) -> Floats:
    corners = triangles[None] - points[:, None, None]  # (N, F, 3 corners, 3)
    lengths = np.linalg.norm(corners, axis=-1)
    a, b, c = corners[:, :, 0], corners[:, :, 1], corners[:, :, 2]
    volume = np.einsum("nfi,nfi->nf", a, np.cross(b, c))
    denominator = (
        lengths.prod(axis=-1)
        + np.einsum("nfi,nfi->nf", a, b) * lengths[:, :, 2]
        + np.einsum("nfi,nfi->nf", b, c) * lengths[:, :, 0]
        + np.einsum("nfi,nfi->nf", c, a) * lengths[:, :, 1]
    )
    return np.asarray(np.arctan2(volume, denominator).sum(axis=1) / (2 * np.pi))
