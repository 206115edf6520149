"""Col-O and Col-S: shares of objects, and of scenes, that collide.

    Col-O = objects in at least one colliding pair / objects, pooled over all scenes
    Col-S = scenes with at least one colliding pair / scenes

A pair collides where one penetrates the other deeper than a tolerance, since objects that stand on
each other touch. There are two ways to penetrate:

* **Crossing**: triangles of one cross triangles of the other. FCL decides that, exactly. The depth
  is measured separately, because the depths of FCL's contacts are those of single triangles: a
  pair is no deeper than d if a move by d, in one of 27 directions, separates it.
* **Containment**: one lies inside the other and crosses it nowhere. The other's winding number
  is taken at points of its surface; the sign of a distance field is wrong on open meshes. Faces
  must be oriented alike: a surface with faces oriented at random contains nothing.

Other papers use these names for other things (vertices inside remeshed objects, boxes that overlap,
objects against the room): state this definition and the tolerance beside a rate.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.core.frames import Floats
from datagen.core.meshes import Mesh
from datagen.core.seeding import rng_for
from datagen.errors import ConfigError, StageError
from datagen.evaluation.points import sample_surface, triangles_of
from datagen.evaluation.winding import winding_numbers

TOLERANCE = 0.005
"""Depth that is tolerated, as a share of the scene's extent (the longest side of its box)."""

TOLERANCES = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
"""Tolerances at which the rates are given."""

CONTAINMENT_POINTS = 16
"""Points of a surface, most of which must lie inside another one. Without a crossing all do or none
does; a majority tolerates a surface with holes."""


@dataclass(frozen=True)
class SceneCollisions:
    """How deep the objects of one scene penetrate each other."""

    num_objects: int
    """Objects with a surface; missing ones do not count."""

    depths: dict[tuple[int, int], float]
    """For each pair (i < j) that crosses or contains: the smallest tried tolerance at which it
    is separated, a share of the scene's extent; inf where none does."""

    def colliding(self, tolerance: float = TOLERANCE) -> tuple[int, ...]:
        """Return the objects in at least one pair deeper than the tolerance, in order."""
        pairs = [pair for pair, depth in self.depths.items() if depth > tolerance]
        return tuple(sorted({index for pair in pairs for index in pair}))


@dataclass(frozen=True)
class CollisionRates:
    """Both rates at one tolerance, and what they were counted over."""

    tolerance: float
    col_o: float
    col_s: float
    num_objects: int
    num_scenes: int


def scene_collisions(
    meshes: Sequence[Mesh | None], *, tolerances: Sequence[float] = TOLERANCES
) -> SceneCollisions:
    """Return the pairs of one scene's objects that penetrate each other, any unit and frame.

    Args:
        meshes: vertices (V, 3), faces (F, 3) an object; None, or no faces, where it is missing.
        tolerances: ascending depths that are distinguished, as shares of the scene's extent.

    Raises:
        RowError: a coordinate is not finite, or a face names a vertex that is not there.
    """
    solids = {
        index: _Solid.of(mesh, index)
        for index, mesh in enumerate(meshes)
        if mesh is not None and len(mesh[1])
    }
    if not solids:
        return SceneCollisions(0, {})
    low = np.min([solid.low for solid in solids.values()], axis=0)
    high = np.max([solid.high for solid in solids.values()], axis=0)
    steps = [tolerance * float((high - low).max()) for tolerance in sorted(tolerances)]
    depths = {}
    indices = sorted(solids)
    for place, i in enumerate(indices):
        for j in indices[place + 1 :]:
            step = _parted_at(solids[i], solids[j], steps)
            if step is None or step > 0:
                depths[i, j] = float("inf") if step is None else sorted(tolerances)[step]
    return SceneCollisions(len(solids), depths)


def collision_rates(
    scenes: Sequence[SceneCollisions], tolerance: float = TOLERANCE
) -> CollisionRates:
    """Pool the scenes' collisions; tolerance must be one of those that the scenes were made with.

    Raises:
        ConfigError: there is no object.
    """
    num_objects = sum(scene.num_objects for scene in scenes)
    if num_objects == 0:
        raise ConfigError(
            f"collision rates: {len(scenes)} scenes hold 0 objects; a rate needs at least one."
        )
    colliding = [scene.colliding(tolerance) for scene in scenes]
    return CollisionRates(
        tolerance,
        sum(len(objects) for objects in colliding) / num_objects,
        sum(bool(objects) for objects in colliding) / len(scenes),
        num_objects,
        len(scenes),
    )


def require_fcl() -> Any:
    """Return the module ``fcl``.

    Raises:
        StageError: it is not installed.
    """
    try:
        return importlib.import_module("fcl")
    except ImportError as error:
        raise StageError(
            f"collisions: fcl cannot be imported ({error}); it decides whether triangles cross. "
            "Install the extra `evaluate` (pip install 'datagen[evaluate]')."
        ) from error


@dataclass(frozen=True)
class _Solid:
    """One object, prepared for queries."""

    mesh: Mesh
    low: Floats
    high: Floats
    probes: Floats
    """(CONTAINMENT_POINTS, 3), on its surface."""
    collider: Any
    """FCL's, of its triangles."""

    @staticmethod
    def of(mesh: Mesh, index: int) -> "_Solid":
        fcl, triangles = require_fcl(), triangles_of(mesh)
        corners = triangles.reshape(-1, 3)
        model = fcl.BVHModel()
        model.beginModel(len(corners), len(triangles))
        model.addSubModel(corners, np.arange(len(corners)).reshape(-1, 3))
        model.endModel()
        probes = corners[:1]  # a surface without area is still somewhere
        if np.linalg.norm(np.cross(*(triangles[:, 1:] - triangles[:, :1]).swapaxes(0, 1))) > 0:
            probes = sample_surface(mesh, CONTAINMENT_POINTS, rng_for(0, "containment", index))
        low, high = corners.min(axis=0), corners.max(axis=0)
        return _Solid(mesh, low, high, probes, fcl.CollisionObject(model, fcl.Transform()))


def _parted_at(first: _Solid, second: _Solid, steps: Sequence[float]) -> int | None:
    """Return the number of the first step whose move separates a pair; None if none does.

    Step 0 is a move by nothing where the tolerances begin with 0.
    """
    directions = _directions(first, second)
    for number, length in enumerate(steps):
        moves = length * directions if length > 0 else np.zeros((1, 3))
        if any(_apart(first, second, move) for move in moves):
            return number
    return None


def _directions(first: _Solid, second: _Solid) -> Floats:
    """Return unit directions (27, 3): between the boxes, then a cube's faces, edges and corners."""
    grid = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[np.abs(grid).sum(axis=1) > 0]
    between = (first.low + first.high - second.low - second.high)[None]
    directions = np.concatenate([between, grid[np.argsort(np.abs(grid).sum(axis=1))]])
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    return np.asarray(directions / np.maximum(lengths, np.finfo(float).tiny))


def _apart(first: _Solid, second: _Solid, move: Floats) -> bool:
    """Return whether the first, moved, neither crosses nor contains nor lies inside the second."""
    low, high = first.low + move, first.high + move
    if np.any(low > second.high) or np.any(high < second.low):
        return True
    fcl = require_fcl()
    first.collider.setTransform(fcl.Transform(np.eye(3), move))
    if fcl.collide(first.collider, second.collider, fcl.CollisionRequest(), fcl.CollisionResult()):
        return False
    if np.all(low >= second.low) and np.all(high <= second.high):
        return not _inside(first.probes + move, second.mesh)
    if np.all(low <= second.low) and np.all(high >= second.high):
        return not _inside(second.probes - move, first.mesh)
    return True


def _inside(points: Floats, mesh: Mesh) -> bool:
    inside: NDArray[np.bool_] = np.abs(winding_numbers(points, mesh)) > 0.5
    return bool(inside.mean() > 0.5)
