"""Conversion of a Blender scene to triangles, their placing and cleaning, and back to one mesh."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import bpy
import numpy as np
from datagen.core.frames import Y_UP_TO_Z_UP
from numpy.typing import NDArray

Floats = NDArray[np.float64]
GEOMETRY_TYPES = ("MESH", "CURVE", "SURFACE", "META", "FONT")
MAX_UV_LAYERS = 8
"""Blender's limit for a mesh; all parts of a file together may have more."""
MIN_AREA_RATIO = 1e-12
"""A triangle with less area has none; as a share of the bounding box's squared longest side."""


@dataclass(frozen=True)
class Triangles:
    """Triangles with their materials, normals, texture coordinates and colours."""

    vertices: Floats
    """(V, 3), z_up."""

    faces: NDArray[np.int64]
    """(F, 3)."""

    material: NDArray[np.int64]
    """(F,), indices into ``materials``."""

    normals: Floats
    """(F, 3, 3), a unit vector per corner."""

    smooth: NDArray[np.bool_]
    """(F,), whether a face is shaded smooth."""

    uvs: dict[str, Floats]
    """(F, 3, 2) per layer; materials use the first one by default."""

    colors: dict[str, Floats]
    """(F, 3, 4) per layer, linear."""

    materials: list[bpy.types.Material | None]

    def masked(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> "Triangles":
        """Return the chosen faces; all vertices are kept.

        Args:
            keep: (F,) bool, or face indices.
        """
        return replace(
            self,
            faces=self.faces[keep],
            material=self.material[keep],
            normals=self.normals[keep],
            smooth=self.smooth[keep],
            uvs={name: uv[keep] for name, uv in self.uvs.items()},
            colors={name: color[keep] for name, color in self.colors.items()},
        )


def collect(depsgraph: bpy.types.Depsgraph) -> Triangles:
    """Return the scene's triangles, world space, with modifiers applied and instances realised."""
    parts = [
        read_instance(instance, depsgraph)
        for instance in depsgraph.object_instances
        if instance.show_self
        and instance.object.type in GEOMETRY_TYPES
        and not instance.object.hide_render
    ]
    return join(parts)


def read_instance(instance: Any, depsgraph: bpy.types.Depsgraph) -> Triangles:
    """Return the triangles of one evaluated object or instance, in world space."""
    obj = instance.object
    matrix = np.array(instance.matrix_world, np.float64)
    slots = [slot.material.original if slot.material else None for slot in obj.material_slots]
    mesh = obj.to_mesh(preserve_all_data_layers=True, depsgraph=depsgraph)
    try:
        local = read_mesh(mesh, slots or [None])
    finally:
        obj.to_mesh_clear()
    return transformed(local, matrix[:3, :3], matrix[:3, 3])


def read_mesh(mesh: bpy.types.Mesh, slots: list[bpy.types.Material | None]) -> Triangles:
    """Return a mesh's triangles in its own space.

    Args:
        mesh: in Blender.
        slots: its materials.
    """
    mesh.calc_loop_triangles()
    tris = mesh.loop_triangles
    loops = read(tris, "loops", (len(tris), 3), np.int32)
    normals = read(mesh.corner_normals, "vector", (len(mesh.loops), 3), np.float32)
    material = read(tris, "material_index", (len(tris),), np.int32)
    return Triangles(
        vertices=read(mesh.vertices, "co", (len(mesh.vertices), 3), np.float32).astype(float),
        faces=read(tris, "vertices", (len(tris), 3), np.int32).astype(np.int64),
        material=np.clip(material, 0, len(slots) - 1).astype(np.int64),
        normals=normals[loops].astype(float),
        smooth=read(tris, "use_smooth", (len(tris),), bool),
        uvs={name: uv[loops].astype(float) for name, uv in uv_layers(mesh)},
        colors={name: color[loops].astype(float) for name, color in color_layers(mesh)},
        materials=slots,
    )


def uv_layers(mesh: bpy.types.Mesh) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield name and values (loops, 2) of each layer, first the one that is rendered."""
    for layer in sorted(mesh.uv_layers, key=lambda layer: not layer.active_render):
        yield layer.name, read(layer.uv, "vector", (len(mesh.loops), 2), np.float32)


def color_layers(mesh: bpy.types.Mesh) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield name and values (loops, 4) of each colour layer, per corner."""
    corner_vertex = read(mesh.loops, "vertex_index", (len(mesh.loops),), np.int32)
    for layer in mesh.color_attributes:
        values = read(layer.data, "color", (len(layer.data), 4), np.float32)
        yield layer.name, values if layer.domain == "CORNER" else values[corner_vertex]


def join(parts: list[Triangles]) -> Triangles:
    """Return all parts as one, with one list of materials; missing layers are filled with zeros."""
    materials = list(dict.fromkeys(m for part in parts for m in part.materials))
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])

    def stack(arrays: list[NDArray[Any]], empty: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate(arrays) if arrays else empty

    def layers(kind: str, width: int) -> dict[str, Floats]:
        names = dict.fromkeys(name for part in parts for name in getattr(part, kind))
        return {
            name: np.concatenate(
                [
                    getattr(part, kind).get(name, np.zeros((len(part.faces), 3, width)))
                    for part in parts
                ]
            )
            for name in names
        }

    slot_of = [np.array([materials.index(m) for m in part.materials]) for part in parts]
    return Triangles(
        vertices=stack([part.vertices for part in parts], np.zeros((0, 3))),
        faces=stack(
            [part.faces + offset for part, offset in zip(parts, offsets, strict=False)],
            np.zeros((0, 3), np.int64),
        ),
        material=stack(
            [slots[part.material] for part, slots in zip(parts, slot_of, strict=True)],
            np.zeros(0, np.int64),
        ),
        normals=stack([part.normals for part in parts], np.zeros((0, 3, 3))),
        smooth=stack([part.smooth for part in parts], np.zeros(0, bool)),
        uvs=layers("uvs", 2),
        colors=layers("colors", 4),
        materials=materials,
    )


def place(triangles: Triangles, options: dict[str, Any]) -> tuple[Triangles, Floats]:
    """Return the triangles as a canonical asset, and the position of its origin in the file.

    A canonical asset is Z up, in metres, with the bounding box centred about the Z axis and the
    lowest point at z = 0.

    Args:
        triangles: as Blender imports a Y-up file: rotated by Y_UP_TO_Z_UP.
        options: the fields of datagen.assets.objects.ImportOptions.

    Returns:
        The triangles, and (3,), metres, z_up.
    """
    to_z_up = Y_UP_TO_Z_UP[:3, :3]
    own_rotation = np.array(options["rotation"] or np.eye(3), np.float64).reshape(3, 3)
    rotation = (to_z_up if options["up_axis"] == "Y" else np.eye(3)) @ own_rotation @ to_z_up.T
    rotated = transformed(triangles, rotation, np.zeros(3))

    low, high = box(rotated)
    extent = high - low
    if options["size_m"] is None:
        longest = float(extent.max()) or 1.0
        scale = np.full(3, 1.0 / longest if options["unit_m"] is None else options["unit_m"])
    else:
        # A side of length 0 cannot be stretched.
        scale = np.where(extent > 0, options["size_m"] / np.where(extent > 0, extent, 1.0), 1.0)
    base = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    return transformed(rotated, np.diag(scale), -scale * base), scale * base


def clean(triangles: Triangles) -> tuple[Triangles, int]:
    """Return the triangles after cleaning, and the number of removed faces.

    Equal vertices are welded; faces without area, repeated faces and unused vertices are removed.
    Positions are compared in float32, as they are stored.
    """
    positions, index = np.unique(
        triangles.vertices.astype(np.float32) + np.float32(0.0), axis=0, return_inverse=True
    )
    faces = index.reshape(-1)[triangles.faces]
    low, high = box(triangles)
    corners = positions.astype(np.float64)[faces]
    sides = corners[:, 1:] - corners[:, :1]
    area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1) / 2
    has_area = np.flatnonzero(area > MIN_AREA_RATIO * np.max(high - low) ** 2)
    # Two faces with the same vertices, in any winding, would be rendered at the same depth.
    _, first = np.unique(np.sort(faces[has_area], axis=1), axis=0, return_index=True)
    keep = has_area[np.sort(first)]
    used, renumbered = np.unique(faces[keep], return_inverse=True)
    kept = replace(
        triangles.masked(keep),
        vertices=positions[used].astype(np.float64),
        faces=renumbered.reshape(-1, 3),
    )
    return kept, len(faces) - len(keep)


def decimate(triangles: Triangles, max_faces: int) -> Triangles:
    """Return about ``max_faces`` triangles of similar shape and look, by collapsing edges."""
    mesh = write_mesh(triangles, "too large")
    obj = bpy.data.objects.new("too large", mesh)
    bpy.context.scene.collection.objects.link(obj)
    modifier = obj.modifiers.new("limit", "DECIMATE")
    modifier.ratio = max_faces / len(triangles.faces)
    modifier.use_collapse_triangulate = True
    depsgraph = bpy.context.evaluated_depsgraph_get()
    reduced = obj.evaluated_get(depsgraph).to_mesh(
        preserve_all_data_layers=True, depsgraph=depsgraph
    )
    return read_mesh(reduced, list(mesh.materials))


def write_mesh(triangles: Triangles, name: str) -> bpy.types.Mesh:
    """Return a new Blender mesh of the triangles, with their layers, normals and used materials."""
    num_faces = len(triangles.faces)
    used, material = np.unique(triangles.material, return_inverse=True)
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(triangles.vertices))
    mesh.vertices.foreach_set("co", triangles.vertices.astype(np.float32).ravel())
    mesh.loops.add(3 * num_faces)
    mesh.loops.foreach_set("vertex_index", triangles.faces.astype(np.int32).ravel())
    mesh.polygons.add(num_faces)
    mesh.polygons.foreach_set("loop_start", np.arange(0, 3 * num_faces, 3, dtype=np.int32))
    for slot in used:
        mesh.materials.append(triangles.materials[slot])
    mesh.polygons.foreach_set("material_index", material.astype(np.int32).ravel())
    mesh.polygons.foreach_set("use_smooth", triangles.smooth)
    for layer_name, uv in list(triangles.uvs.items())[:MAX_UV_LAYERS]:
        layer = mesh.uv_layers.new(name=layer_name)
        layer.uv.foreach_set("vector", uv.astype(np.float32).ravel())
    for layer_name, color in triangles.colors.items():
        attribute = mesh.color_attributes.new(layer_name, "FLOAT_COLOR", "CORNER")
        attribute.data.foreach_set("color", color.astype(np.float32).ravel())
    mesh.update(calc_edges=True)
    mesh.validate(clean_customdata=False)
    if triangles.smooth.any():
        mesh.normals_split_custom_set(triangles.normals.reshape(-1, 3))
    return mesh


def transformed(triangles: Triangles, linear: Floats, offset: Floats) -> Triangles:
    """Return the triangles after an affine transform; a mirroring one also flips the winding.

    Args:
        triangles: to transform.
        linear: (3, 3).
        offset: (3,).
    """
    normals = triangles.normals @ np.linalg.pinv(linear)
    lengths = np.linalg.norm(normals, axis=-1, keepdims=True)
    moved = replace(
        triangles,
        vertices=triangles.vertices @ linear.T + offset,
        normals=normals / np.where(lengths > 0, lengths, 1.0),
    )
    return flipped(moved) if np.linalg.det(linear) < 0 else moved


def flipped(triangles: Triangles) -> Triangles:
    """Return the triangles with the opposite winding."""
    return replace(
        triangles,
        faces=triangles.faces[:, ::-1],
        normals=triangles.normals[:, ::-1],
        uvs={name: uv[:, ::-1] for name, uv in triangles.uvs.items()},
        colors={name: color[:, ::-1] for name, color in triangles.colors.items()},
    )


def box(triangles: Triangles) -> tuple[Floats, Floats]:
    """Return the lowest and the highest corner, (3,) each, of the bounding box of all faces."""
    corners = triangles.vertices[triangles.faces].reshape(-1, 3)
    return corners.min(axis=0), corners.max(axis=0)


def read(collection: Any, attribute: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return an attribute of a Blender collection as an array of that shape."""
    values = np.empty(int(np.prod(shape)), dtype)
    collection.foreach_get(attribute, values)
    return values.reshape(shape)
