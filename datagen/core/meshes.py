"""Triangle meshes: the type that the whole project uses, and how a mesh is transformed."""

from datagen.core.frames import AnyFloats, AnyIntegers, Floats, transform_points

Mesh = tuple[AnyFloats, AnyIntegers]
"""Vertices (V, 3) of any float dtype, and faces (F, 3), three vertex indices each."""


def transform_mesh(matrix: Floats, mesh: Mesh) -> tuple[Floats, AnyIntegers]:
    """Return a mesh after an affine transform: vertices (V, 3) float64, and the same faces.

    Args:
        matrix: (4, 4), from the mesh's frame to another one.
        mesh: vertices (V, 3) and faces (F, 3).
    """
    vertices, faces = mesh
    return transform_points(matrix, vertices), faces
