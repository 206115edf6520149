"""Penetration of two meshes, with python-fcl.

Two meshes penetrate each other by at most d if some translation of one of them by d separates
them. FCL's own depths are not used: for non-convex meshes they belong to single pairs of
triangles.
"""

from dataclasses import dataclass

import fcl
import numpy as np

from datagen.core.frames import AnyIntegers, Floats

AXES: Floats = np.array(
    [[0, 0, 1], [0, 0, -1], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]], float
)


@dataclass(frozen=True)
class Surface:
    """A triangle mesh in world coordinates."""

    vertices: Floats
    """(V, 3), metres."""

    faces: AnyIntegers
    """(F, 3)."""

    def bounds(self) -> Floats:
        """Return the lowest and the highest corner of the bounding box, (2, 3), metres."""
        return np.array([self.vertices.min(axis=0), self.vertices.max(axis=0)])

    def within(self, box: Floats) -> "Surface":
        """Return the triangles whose bounding boxes touch a box (2, 3), metres."""
        corners = self.vertices[self.faces]
        meets = (corners.min(axis=1) <= box[1]) & (corners.max(axis=1) >= box[0])
        return Surface(self.vertices, self.faces[meets.all(axis=1)])


def penetrates(one: Surface, other: Surface, depth: float) -> bool:
    """Return whether two surfaces penetrate each other deeper than ``depth``, metres.

    True means that no translation by ``depth`` along one of the six axis directions or along the
    line between their box centres separates them; another direction might. A surface wholly
    inside another one does not touch it and counts as separate.
    """
    boxes = one.bounds(), other.bounds()
    shared = np.array([np.maximum(boxes[0][0], boxes[1][0]), np.minimum(boxes[0][1], boxes[1][1])])
    if np.any(shared[0] >= shared[1] - depth):
        return False  # a translation along that axis separates the boxes
    shared += np.array([[-depth], [depth]])
    near = [surface.within(shared) for surface in (one, other)]
    if not all(len(surface.faces) for surface in near):
        return False
    first, second = (_collider(surface) for surface in near)
    between = boxes[0].mean(axis=0) - boxes[1].mean(axis=0)
    away = between / max(float(np.linalg.norm(between)), np.finfo(float).tiny)
    if not _touch(first, second, np.zeros(3)):
        return False
    return all(_touch(first, second, depth * move) for move in (*AXES, away))


def _collider(surface: Surface) -> fcl.CollisionObject:
    used, faces = np.unique(surface.faces, return_inverse=True)
    model = fcl.BVHModel()
    model.beginModel(len(used), len(surface.faces))
    model.addSubModel(surface.vertices[used], faces.reshape(-1, 3))
    model.endModel()
    return fcl.CollisionObject(model, fcl.Transform())


def _touch(first: fcl.CollisionObject, second: fcl.CollisionObject, move: Floats) -> bool:
    first.setTransform(fcl.Transform(np.eye(3), move))
    return bool(fcl.collide(first, second, fcl.CollisionRequest(), fcl.CollisionResult()))
