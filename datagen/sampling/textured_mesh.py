"""Small textured meshes of a decoder's coloured surfaces.

A surface gets fewer faces (quadric decimation), closed holes (MeshFix), an atlas (xatlas), and in
each texel the colour of the full surface at that point. Needs the extra ``textures``:
fast-simplification, pymeshfix and xatlas.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from datagen.core.frames import Z_UP_TO_Y_UP, transform_points
from datagen.errors import ConfigError
from datagen.sampling.surfaces import empty_glb, instance_name

logger = logging.getLogger(__name__)

NEIGHBOURS = 4
"""How many vertices of the full surface a texel's colour is mixed from."""
HOLE_EDGES = 250
"""Edges of the longest hole that is closed, on the full surface. TRELLIS: 250."""
HOLE_SHARE = 0.75
"""Edges of the longest hole that is closed, per square root of the surface's faces.

The rim of half a sphere has 1.6 times that root, and stays open."""
MIN_FACES = 200
"""Decimation leaves at least this many."""


@dataclass(frozen=True)
class TexturedMesh:
    """A mesh with a texture, in the canonical frame, z_up, [-0.5, 0.5]³."""

    vertices: NDArray[np.float32]
    """(V, 3); a vertex on a seam of the atlas is repeated."""
    faces: NDArray[np.int32]
    """(F, 3)."""
    uv: NDArray[np.float32]
    """(V, 2), 0..1, v points up."""
    texture: NDArray[np.uint8]
    """(T, T, 3), sRGB."""
    watertight: bool
    """Whether the surface was closed before it was cut into an atlas."""
    num_source_faces: int
    """Faces of the decoder's surface, before decimation."""


def bake(
    vertices: NDArray[np.floating[Any]],
    faces: NDArray[np.integer[Any]],
    colors: NDArray[np.floating[Any]],
    *,
    keep_faces: float = 0.05,
    texture_px: int = 1024,
) -> TexturedMesh:
    """Return a coloured surface with fewer faces, and with its colours in a texture.

    Args:
        vertices: (V, 3), canonical.
        faces: (F, 3).
        colors: (V, 3), sRGB in [0, 1].
        keep_faces: share of the faces that decimation leaves. TRELLIS: 0.05.
        texture_px: width and height of the texture.

    Raises:
        ConfigError: a library of the extra ``textures`` is not installed.
    """
    light = _decimate(vertices, faces, keep_faces)
    place, atlas_faces, uv = _unwrap(light)
    atlas_vertices = np.asarray(light.vertices)[place]
    texel, points = _texel_points(atlas_vertices, atlas_faces, uv, texture_px)
    texture = np.zeros((texture_px, texture_px, 3))
    texture[texel] = _colors_at(points, np.asarray(vertices), np.asarray(colors))
    filled = np.zeros((texture_px, texture_px), bool)
    filled[texel] = True
    # Texels outside the charts get the nearest colour, because viewers blend across seams.
    nearest = distance_transform_edt(~filled, return_distances=False, return_indices=True)
    return TexturedMesh(
        vertices=atlas_vertices.astype(np.float32),
        faces=atlas_faces.astype(np.int32),
        uv=uv.astype(np.float32),
        texture=np.round(255 * texture[tuple(nearest)].clip(0, 1)).astype(np.uint8),
        watertight=bool(light.is_watertight),
        num_source_faces=len(faces),
    )


def write_textured_glb(path: Path, instances: Mapping[int, TexturedMesh]) -> None:
    """Write a GLB (y_up) with a textured node ``instance_XX`` per instance.

    A file without any instance is still a valid GLB.

    Args:
        path: of the GLB; its folder is made if missing.
        instances: meshes by index.
    """
    scene = trimesh.Scene()
    for index, mesh in sorted(instances.items()):
        material = trimesh.visual.material.PBRMaterial(
            name=instance_name(index),
            baseColorTexture=Image.fromarray(mesh.texture),
            metallicFactor=0.0,
            roughnessFactor=1.0,
        )
        visual = trimesh.visual.TextureVisuals(uv=mesh.uv, material=material)
        vertices = transform_points(Z_UP_TO_Y_UP, mesh.vertices)
        geometry = trimesh.Trimesh(vertices, mesh.faces, process=False, visual=visual)
        geometry.vertex_normals  # noqa: B018  computed once, then exported
        scene.add_geometry(geometry, node_name=instance_name(index), geom_name=instance_name(index))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        scene.export(file_type="glb", include_normals=True) if instances else empty_glb()
    )


def _decimate(
    vertices: NDArray[np.floating[Any]], faces: NDArray[np.integer[Any]], keep_faces: float
) -> trimesh.Trimesh:
    try:
        import fast_simplification
    except ImportError as error:
        raise _missing("fast-simplification") from error
    target = max(MIN_FACES, round(keep_faces * len(faces)))
    if target < len(faces):
        vertices, faces = fast_simplification.simplify(
            np.ascontiguousarray(vertices, np.float32),
            np.ascontiguousarray(faces, np.int32),
            target_count=target,
        )
    mesh = trimesh.Trimesh(vertices, faces, process=True)
    mesh.update_faces(mesh.nondegenerate_faces())
    return mesh if mesh.is_watertight else _close_holes(mesh, keep_faces)


def _close_holes(mesh: trimesh.Trimesh, keep_faces: float) -> trimesh.Trimesh:
    """Return the mesh with its small holes closed.

    A hole may have HOLE_EDGES edges on the full surface; decimation makes edges longer, so the
    limit falls with the square root of the faces kept. On surfaces of few faces HOLE_SHARE gives
    the limit. Larger holes are openings of the object, and stay. MeshFix also separates surfaces
    that touch in a single point or edge.
    """
    try:
        import pymeshfix
    except ImportError as error:
        raise _missing("pymeshfix") from error
    by_detail, by_faces = HOLE_EDGES * keep_faces**0.5, HOLE_SHARE * len(mesh.faces) ** 0.5
    most = max(3, round(min(by_detail, by_faces)))
    fixer = pymeshfix.PyTMesh()
    fixer.set_quiet(1)
    fixer.load_array(np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int32))
    fixer.fill_small_boundaries(nbe=most, refine=True)
    vertices, faces = fixer.return_arrays()
    if not len(faces):  # MeshFix removes a surface that encloses no volume
        return mesh
    return trimesh.Trimesh(vertices, faces, process=True)


def _unwrap(
    mesh: trimesh.Trimesh,
) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.float32]]:
    """Return the mesh's vertex of each atlas vertex (V,), the faces (F, 3) and uv (V, 2)."""
    try:
        import xatlas
    except ImportError as error:
        raise _missing("xatlas") from error
    place, faces, uv = xatlas.parametrize(
        np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.uint32)
    )
    return place, faces, uv


def _texel_points(
    vertices: NDArray[np.floating[Any]],
    faces: NDArray[np.integer[Any]],
    uv: NDArray[np.floating[Any]],
    texture_px: int,
) -> tuple[tuple[NDArray[np.intp], NDArray[np.intp]], NDArray[np.float64]]:
    """Return the N texels (row, column) whose centre lies in a chart, and their points (N, 3).

    A ray straight down onto the atlas finds the triangle under each texel.
    """
    flat = np.column_stack([uv, np.zeros(len(uv))]).astype(np.float32)
    scene = EmbreeScene(robust=True)
    TriangleMesh(scene, flat, np.ascontiguousarray(faces, np.int32))
    centre = (np.arange(texture_px) + 0.5) / texture_px
    u, v = (axis.ravel() for axis in np.meshgrid(centre, centre))
    origins = np.column_stack([u, v, np.ones_like(u)]).astype(np.float32)
    down = np.broadcast_to(np.array([0, 0, -1], np.float32), origins.shape).copy()
    hits = scene.run(origins, down, query="INTERSECT", output=True)
    hit = hits["geomID"] >= 0
    corners = vertices[faces[hits["primID"][hit]]]
    # Embree's u and v are the weights of the second and the third corner.
    second, third = hits["u"][hit][:, None], hits["v"][hit][:, None]
    points = (1 - second - third) * corners[:, 0] + second * corners[:, 1] + third * corners[:, 2]
    row, column = np.divmod(np.flatnonzero(hit), texture_px)
    return (texture_px - 1 - row, column), points  # the first row of an image is its top


def _colors_at(
    points: NDArray[np.float64],
    vertices: NDArray[np.floating[Any]],
    colors: NDArray[np.floating[Any]],
) -> NDArray[np.float64]:
    """Return the colours (N, 3) at points: inverse-square mean over the nearest vertices."""
    distance, near = cKDTree(vertices).query(points, k=min(NEIGHBOURS, len(vertices)))
    distance, near = distance.reshape(len(points), -1), near.reshape(len(points), -1)
    weight = 1 / np.maximum(distance, 1e-9) ** 2
    weight /= weight.sum(axis=1, keepdims=True)
    mixed: NDArray[np.float64] = (weight[..., None] * colors[near]).sum(axis=1)
    return mixed


def _missing(package: str) -> ConfigError:
    return ConfigError(
        f"textures: {package} is not installed. Expected the extra `textures` "
        "(pip install 'datagen[textures]'); without it, use --models structure."
    )
