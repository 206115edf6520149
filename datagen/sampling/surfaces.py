"""Surfaces of decoder logits, and the GLB files of scenes: written and read.

Meshes are (vertices (V, 3) float32, faces (F, 3) int32) in the canonical frame, z_up, [−0.5, 0.5]³.
Inside a GLB they are y_up: (x, y, z) → (x, z, −y).
"""

import json
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from datagen.core.frames import Y_UP_TO_Z_UP, Z_UP_TO_Y_UP, transform_points
from datagen.core.meshes import Mesh
from datagen.errors import DatasetError
from datagen.voxels.drawing import instance_color

_LOGIT_LIMIT = 4.0
"""Logits are clipped to ± this, which keeps the surface away from the voxel centres."""

_NODE_NAME = re.compile(r"instance_(\d+)$")


def surface_from_logits(
    logits: NDArray[np.floating[Any]], *, smoothing_steps: int = 6
) -> Mesh | None:
    """Return the surface between occupied and free voxels, or None if no voxel is occupied.

    Marching cubes over the voxel centres, closed at the border of the cube, then light Taubin
    smoothing, which removes the stairs and almost keeps the volume.

    Args:
        logits: (R, R, R), above 0 is occupied; voxel i has its centre at (i + 0.5)/R − 0.5.
        smoothing_steps: of Taubin's filter; 0 for none.
    """
    resolution = logits.shape[0]
    field = np.clip(np.asarray(logits, np.float32), -_LOGIT_LIMIT, _LOGIT_LIMIT)
    if not (field > 0).any():
        return None
    # The border outside is as free as a voxel can be occupied, so the surface stays in the cube.
    field = np.pad(field, 1, constant_values=-_LOGIT_LIMIT)
    vertices, faces, _, _ = marching_cubes(field, 0.0, gradient_direction="ascent")
    mesh = trimesh.Trimesh((vertices - 0.5) / resolution - 0.5, faces, process=False)
    # nu is slightly above lamb: 1/lamb − 1/nu ≈ 0.04, a pass band that keeps volume (Taubin 1995).
    trimesh.smoothing.filter_taubin(mesh, lamb=0.5, nu=0.51, iterations=smoothing_steps)
    smooth = np.asarray(mesh.vertices).clip(-0.5, 0.5)
    return smooth.astype(np.float32), np.asarray(faces, np.int32)


def surface_from_occupancy(occupied: NDArray[np.bool_], *, smoothing_steps: int = 6) -> Mesh | None:
    """Return the surface of an occupancy grid (R, R, R), made as ``surface_from_logits`` does."""
    logits = np.where(occupied, _LOGIT_LIMIT, -_LOGIT_LIMIT)
    return surface_from_logits(logits, smoothing_steps=smoothing_steps)


def instance_name(index: int) -> str:
    """Return the name of instance ``index`` in GLB nodes and file names."""
    return f"instance_{index:02d}"


def write_scene_glb(
    path: Path,
    instances: Mapping[int, Mesh | None],
    colors: Callable[[int], tuple[int, int, int]] = instance_color,
) -> list[int]:
    """Write a GLB (y_up) with a node ``instance_XX`` per instance; return the instances left out.

    Instances without a surface (None, or no faces) get no node; the caller reports them. A file
    without any instance is still a valid GLB.

    Args:
        path: of the GLB; its folder is made if missing.
        instances: vertices (V, 3), Z up, and faces (F, 3) by index.
        colors: sRGB colour of an instance, 0..255.
    """
    present = {index: mesh for index, mesh in sorted(instances.items()) if _has_faces(mesh)}
    scene = trimesh.Scene()
    for index, mesh in present.items():
        assert mesh is not None, index
        vertices = transform_points(Z_UP_TO_Y_UP, mesh[0])
        material = trimesh.visual.material.PBRMaterial(
            name=instance_name(index),
            baseColorFactor=[*colors(index), 255],
            metallicFactor=0.0,
            roughnessFactor=0.8,
        )
        visual = trimesh.visual.TextureVisuals(material=material)
        geometry = trimesh.Trimesh(vertices, mesh[1], process=False, visual=visual)
        scene.add_geometry(geometry, node_name=instance_name(index), geom_name=instance_name(index))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(scene.export(file_type="glb") if present else empty_glb())
    return sorted(set(instances) - set(present))


def write_instance_glbs(folder: Path, instances: Mapping[int, Mesh | None]) -> list[Path]:
    """Write ``instance_XX.glb`` for every instance that has a surface; return the paths.

    Args:
        folder: where they are written.
        instances: vertices (V, 3) and faces (F, 3) by index, in the scene's frame.
    """
    paths = []
    for index, mesh in sorted(instances.items()):
        if _has_faces(mesh):
            paths.append(folder / f"{instance_name(index)}.glb")
            write_scene_glb(paths[-1], {index: mesh})
    return paths


def read_scene_glb(path: Path) -> dict[int, Mesh]:
    """Return the meshes of a GLB that ``write_scene_glb`` wrote, by instance index.

    Returns:
        Vertices (V, 3) float32, Z up, and faces (F, 3).

    Raises:
        DatasetError: the file is missing, is no GLB, or has a node of another name.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file. Expected a predicted scene; run infer.")
    try:
        scene = trimesh.load_scene(path, process=False)
    except (ValueError, KeyError, IndexError, struct.error) as error:
        raise DatasetError(
            f"{path}: not a readable GLB ({error}). Expected a predicted scene; run infer again."
        ) from error
    instances: dict[int, Mesh] = {}
    for node in scene.graph.nodes_geometry:
        matched = _NODE_NAME.match(node)
        if matched is None:
            raise DatasetError(
                f"{path}: holds a node {node!r}. Expected instance_XX, where XX is the index; "
                "rename the node, or read the file that infer wrote."
            )
        node_to_y_up, geometry_name = scene.graph[node]
        geometry = scene.geometry[geometry_name]
        vertices = transform_points(Y_UP_TO_Z_UP @ node_to_y_up, geometry.vertices)
        instances[int(matched[1])] = (
            vertices.astype(np.float32),
            np.asarray(geometry.faces, np.int32),
        )
    return dict(sorted(instances.items()))


def _has_faces(mesh: Mesh | None) -> bool:
    return mesh is not None and len(mesh[1]) > 0


def empty_glb() -> bytes:
    """Return the bytes of a GLB with an empty scene, which trimesh cannot export."""
    content = json.dumps({"asset": {"version": "2.0"}, "scene": 0, "scenes": [{}]}).encode()
    content += b" " * (-len(content) % 4)
    header = struct.pack("<4sII", b"glTF", 2, 20 + len(content))
    return header + struct.pack("<I4s", len(content), b"JSON") + content
