"""From decoder logits to surfaces, and to GLB files and back.

Meshes are (vertices (V, 3) float32, faces (F, 3) int32), canonical frame: Z up, [−0.5, 0.5]³.
Y-up exists only inside the GLB: (x, y, z) → (x, z, −y).
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
"""Beyond this a decoder is certain; the clip keeps the surface between voxel centres."""

_NODE_NAME = re.compile(r"instance_(\d+)$")


def surface_from_logits(
    logits: NDArray[np.floating[Any]], *, smoothing_steps: int = 6
) -> Mesh | None:
    """Return the surface between the occupied (logit > 0) and free voxels of (R, R, R).

    Marching cubes over the voxel centres ((i + 0.5)/R − 0.5), closed at the border of the cube,
    then light Taubin smoothing, which takes off the stairs and hardly shrinks. None where no voxel
    is occupied.
    """
    resolution = logits.shape[0]
    field = np.clip(np.asarray(logits, np.float32), -_LOGIT_LIMIT, _LOGIT_LIMIT)
    if not (field > 0).any():
        return None
    # Outside is as certainly free as a voxel can be occupied: the surface stays within the cube.
    field = np.pad(field, 1, constant_values=-_LOGIT_LIMIT)
    vertices, faces, _, _ = marching_cubes(field, 0.0, gradient_direction="ascent")
    mesh = trimesh.Trimesh((vertices - 0.5) / resolution - 0.5, faces, process=False)
    # nu a little above lamb: 1/lamb − 1/nu ≈ 0.04, a pass band that keeps the volume (Taubin 1995).
    trimesh.smoothing.filter_taubin(mesh, lamb=0.5, nu=0.51, iterations=smoothing_steps)
    smooth = np.asarray(mesh.vertices).clip(-0.5, 0.5)
    return smooth.astype(np.float32), np.asarray(faces, np.int32)


def surface_from_occupancy(occupied: NDArray[np.bool_], *, smoothing_steps: int = 6) -> Mesh | None:
    """Return the surface of a grid (R, R, R) that is known without logits, as above."""
    logits = np.where(occupied, _LOGIT_LIMIT, -_LOGIT_LIMIT)
    return surface_from_logits(logits, smoothing_steps=smoothing_steps)


def instance_name(index: int) -> str:
    """Return the name of placement ``index`` in GLB nodes and files."""
    return f"instance_{index:02d}"


def write_scene_glb(
    path: Path,
    instances: Mapping[int, Mesh | None],
    colors: Callable[[int], tuple[int, int, int]] = instance_color,
) -> list[int]:
    """Write one GLB (Y-up) with a node an instance, ``instance_XX``; return those left out.

    Instances without a surface (None, or no faces) get no node: the caller must report them. A
    file without any instance is still a valid GLB.
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
    """Write ``instance_XX.glb`` for every instance that has a surface; return their paths.

    They stand where they stand in the scene, not re-centred.
    """
    paths = []
    for index, mesh in sorted(instances.items()):
        if _has_faces(mesh):
            paths.append(folder / f"{instance_name(index)}.glb")
            write_scene_glb(paths[-1], {index: mesh})
    return paths


def read_scene_glb(path: Path) -> dict[int, Mesh]:
    """Read back what ``write_scene_glb`` wrote: placement index to mesh, canonical frame, Z up.

    Raises:
        DatasetError: the file is missing, no GLB, or holds a node of another name.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; a predicted scene was expected. Run infer.")
    try:
        scene = trimesh.load_scene(path, process=False)
    except (ValueError, KeyError, IndexError, struct.error) as error:
        raise DatasetError(
            f"{path}: not a readable GLB ({error}); expected a predicted scene. Run infer again."
        ) from error
    instances: dict[int, Mesh] = {}
    for node in scene.graph.nodes_geometry:
        matched = _NODE_NAME.match(node)
        if matched is None:
            raise DatasetError(
                f"{path}: holds a node {node!r}; expected instance_XX with XX the placement index. "
                "Rename the node, or read the file that infer wrote."
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
    """Return a GLB with an empty scene; trimesh refuses to export one."""
    content = json.dumps({"asset": {"version": "2.0"}, "scene": 0, "scenes": [{}]}).encode()
    content += b" " * (-len(content) % 4)
    header = struct.pack("<4sII", b"glTF", 2, 20 + len(content))
    return header + struct.pack("<I4s", len(content), b"JSON") + content
