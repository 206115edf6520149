"""The ``prepare`` job: import a model file, clean it and write it as one mesh.

It writes a .blend library with one mesh named ``asset``, which will be rendered, and an .npz with
exactly its triangles. Everything that was in Blender before is removed.
"""

from pathlib import Path
from typing import Any

import bpy
import numpy as np

from importers import ImportFailed, import_model
from materials import SafeMaterials, make_materials_safe
from triangles import Triangles, clean, collect, decimate, place, read, transformed, write_mesh

ASSET_NAME = "asset"
PURGED = (
    *("objects", "meshes", "curves", "metaballs", "armatures", "cameras", "lights", "lattices"),
    *("materials", "images", "textures", "node_groups", "actions", "shape_keys", "collections"),
    *("grease_pencils", "speakers", "volumes", "fonts", "texts"),
)


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Write a model file as a prepared asset and return a report.

    Args:
        job: ``model_path``, ``blend_path`` and ``geometry_path`` (absolute; their folders exist),
            ``options`` (the fields of datagen.assets.objects.ImportOptions), and optionally
            ``max_faces`` (a mesh with more triangles is decimated).

    Returns:
        A ``reason`` of None and the asset's counts; or, if nothing was written, a ``reason``
        ("import_failed", "no_triangles", "not_finite") and a ``detail``.
    """
    purge()
    try:
        unit_m = import_model(Path(job["model_path"]))
        triangles = collect(bpy.context.evaluated_depsgraph_get())
        report = write_asset(transformed(triangles, unit_m * np.eye(3), np.zeros(3)), job)
    except ImportFailed as error:
        report = {"reason": "import_failed", "detail": str(error)}
    finally:
        purge()
    return report


def write_asset(triangles: Triangles, job: dict[str, Any]) -> dict[str, Any]:
    """Clean the triangles and their materials, write both files and return the report."""
    materials = make_materials_safe(triangles.materials)
    triangles = triangles.masked(~materials.invisible[triangles.material])
    if not np.isfinite(triangles.vertices).all():
        return {"reason": "not_finite", "detail": "a vertex is NaN or infinite"}
    if len(triangles.faces) == 0:
        return {"reason": "no_triangles", "detail": "the file holds no visible triangle"}
    reduced, num_source_faces = limited(triangles, job.get("max_faces"))
    moved, origin_m = place(reduced, job["options"])
    placed, num_removed = clean(moved)
    if len(placed.faces) == 0:
        return {"reason": "no_triangles", "detail": f"all {num_removed} triangles have no area"}

    remove_all("objects", "meshes")  # frees the name, and memory before the largest step
    mesh = write_mesh(placed, ASSET_NAME)
    write_library(mesh, Path(job["blend_path"]))
    write_geometry(mesh, materials, Path(job["geometry_path"]))
    return {
        "reason": None,
        "detail": None,
        "num_vertices": len(mesh.vertices),
        "num_faces": len(mesh.polygons),
        "num_removed": int(num_removed),
        "num_source_faces": num_source_faces,
        "source_origin_m": origin_m.tolist(),
        "has_texture": materials.has_texture,
        "textures_missing": materials.textures_missing,
    }


def limited(triangles: Triangles, max_faces: int | None) -> tuple[Triangles, int]:
    """Return the triangles, decimated if there are too many, and their original number."""
    if max_faces is None or len(triangles.faces) <= max_faces:
        return triangles, len(triangles.faces)
    # Only faces that would be kept count, and decimation needs welded vertices.
    welded, _ = clean(triangles)
    if len(welded.faces) <= max_faces:
        return welded, len(welded.faces)
    return decimate(welded, max_faces), len(welded.faces)


def write_library(mesh: bpy.types.Mesh, path: Path) -> None:
    """Write the mesh with its materials and packed images; no partial file is left."""
    partial = path.with_suffix(".partial.blend")
    bpy.data.libraries.write(str(partial), {mesh}, compress=True)
    partial.replace(path)


def write_geometry(mesh: bpy.types.Mesh, materials: SafeMaterials, path: Path) -> None:
    """Write the mesh's triangles, exactly as they are in Blender, and which are transparent."""
    faces = read(mesh.loops, "vertex_index", (len(mesh.polygons), 3), np.int32)
    material = read(mesh.polygons, "material_index", (len(mesh.polygons),), np.int32)
    vertices = read(mesh.vertices, "co", (len(mesh.vertices), 3), np.float32)
    by_slot = np.array([materials.is_transparent[m.name] for m in mesh.materials], bool)
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial,
        vertices=vertices,
        faces=faces,
        transparent=by_slot[material],
    )
    partial.replace(path)


def purge() -> None:
    """Remove every datablock but the scene, so that memory does not grow from job to job."""
    if bpy.data.filepath or len(bpy.data.scenes) != 1:  # a .blend file was opened
        bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    remove_all(*PURGED)
    bpy.data.orphans_purge(do_recursive=True)


def remove_all(*names: str) -> None:
    """Remove all datablocks of the given kinds."""
    blocks = [block for name in names for block in getattr(bpy.data, name, ())]
    bpy.data.batch_remove(blocks)
