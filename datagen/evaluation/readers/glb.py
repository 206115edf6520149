"""A GLB's meshes in the order of its file: node transforms applied, Z up."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from datagen.core.frames import Y_UP_TO_Z_UP, Floats, transform_points
from datagen.core.meshes import Mesh
from datagen.errors import RowError

_MAGIC = b"glTF"


def read_glb(
    path: Path, to_z_up: Floats = Y_UP_TO_Z_UP, *, may_be_empty: bool = False
) -> list[tuple[str, Mesh | None]]:
    """Return each node's name and mesh, in file order; None for a mesh without any area.

    Args:
        path: a binary glTF file.
        to_z_up: (4, 4), applied after the nodes' own transforms.
        may_be_empty: whether a file without any triangle is an answer (one failed instance).

    Raises:
        RowError: the file is missing, no GLB, damaged, or holds no triangle at all.
    """
    order = _node_order(path)
    try:
        scene = trimesh.load_scene(path, file_type="glb", process=False)
    except (ValueError, KeyError, IndexError, TypeError, struct.error) as error:
        raise RowError(
            f"{path}: a damaged GLB ({error}); expected a binary glTF scene. Write it again."
        ) from error
    found = []
    for node in sorted(scene.graph.nodes_geometry, key=lambda name: (order.get(name, 1e9), name)):
        node_to_file, geometry_name = scene.graph[node]
        geometry = scene.geometry[geometry_name]
        if isinstance(geometry, trimesh.Trimesh):
            vertices = transform_points(to_z_up @ node_to_file, geometry.vertices)
            found.append((node, with_area(vertices, np.asarray(geometry.faces, np.int32))))
    if not may_be_empty and all(mesh is None for _, mesh in found):
        raise RowError(
            f"{path}: holds no triangle that has an area ({len(found)} meshes); expected at least "
            "one. The method may have failed on this scene."
        )
    return found


def with_area(vertices: Floats, faces: Any) -> Mesh | None:
    """Return vertices (V, 3) and faces (F, 3); None if no face has an area (a method's failure)."""
    if len(faces) == 0 or not np.isfinite(vertices).all():
        return None
    corners = np.asarray(vertices)[faces]
    crossed = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return (vertices, faces) if np.any(crossed != 0) else None


def merged(meshes: list[Mesh | None]) -> Mesh | None:
    """Return several meshes as one, vertices (V, 3) and faces (F, 3); None without a surface."""
    present = [mesh for mesh in meshes if mesh is not None]
    if not present:
        return None
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in present[:-1])])
    faces = [faces + start for (_, faces), start in zip(present, starts, strict=True)]
    return np.concatenate([vertices for vertices, _ in present]), np.concatenate(faces)


def _node_order(path: Path) -> dict[str, int]:
    """Return where in its list a node stands; trimesh walks the graph in another order."""
    try:
        with path.open("rb") as file:
            header = file.read(20)
            if header[:4] != _MAGIC or len(header) < 20:
                raise RowError(
                    f"{path}: begins with {header[:8]!r}, so it is no GLB; expected the four "
                    "letters 'glTF'. Export it as binary glTF."
                )
            content = json.loads(file.read(struct.unpack("<I", header[12:16])[0]))
    except FileNotFoundError as error:
        raise RowError(f"{path}: no such file; a scene was expected there.") from error
    except ValueError as error:
        raise RowError(f"{path}: a damaged GLB ({error}); write it again.") from error
    return {node.get("name", ""): place for place, node in enumerate(content.get("nodes", []))}
