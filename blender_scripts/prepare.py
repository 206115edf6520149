"""Open one model file, clean it, and keep one mesh: what is written is what will be rendered.

Runs inside Blender. The outcome is a .blend library with one mesh datablock named ``asset`` and
an .npz with exactly its triangles. Everything that Blender held before is thrown away.
"""

from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from materials import SafeMaterials, make_materials_safe
from triangles import Triangles, clean, collect, place, write_mesh

ASSET_NAME = "asset"
PURGED = (
    *("objects", "meshes", "curves", "metaballs", "armatures", "cameras", "lights", "lattices"),
    *("materials", "images", "textures", "node_groups", "actions", "shape_keys", "collections"),
    *("grease_pencils", "speakers", "volumes", "fonts", "texts"),
)


class ImportFailed(Exception):
    """The importer could not read the file."""


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Turn a model file into a prepared asset.

    Args:
        job: ``model_path``, ``blend_path`` and ``geometry_path`` (absolute; folders exist) and
            ``options`` (the fields of datagen.assets.objects.ImportOptions).

    Returns:
        ``reason`` null and the asset's counts, or a reason ("import_failed", "no_triangles",
        "not_finite") with a ``detail``, and then nothing is written.
    """
    purge()
    try:
        import_model(Path(job["model_path"]))
        triangles = collect(bpy.context.evaluated_depsgraph_get())
        report = write_asset(triangles, job)
    except ImportFailed as error:
        report = {"reason": "import_failed", "detail": str(error)}
    finally:
        purge()
    return report


def write_asset(triangles: Triangles, job: dict[str, Any]) -> dict[str, Any]:
    """Clean the triangles and their materials and write both files; returns the report."""
    materials = make_materials_safe(triangles.materials)
    triangles = triangles.masked(~materials.invisible[triangles.material])
    if not np.isfinite(triangles.vertices).all():
        return {"reason": "not_finite", "detail": "a vertex is NaN or infinite"}
    if len(triangles.faces) == 0:
        return {"reason": "no_triangles", "detail": "the file holds no visible triangle"}
    placed, num_removed = clean(place(triangles, job["options"]))
    if len(placed.faces) == 0:
        return {"reason": "no_triangles", "detail": f"all {num_removed} triangles have no area"}

    remove_all("objects", "meshes")  # Frees the name, and the memory before the largest step.
    mesh = write_mesh(placed, ASSET_NAME)
    write_library(mesh, Path(job["blend_path"]))
    write_geometry(mesh, materials, Path(job["geometry_path"]))
    return {
        "reason": None,
        "detail": None,
        "num_vertices": len(mesh.vertices),
        "num_faces": len(mesh.polygons),
        "num_removed": int(num_removed),
        "has_texture": materials.has_texture,
        "textures_missing": materials.textures_missing,
    }


def import_model(path: Path) -> None:
    """Import a Y-up OBJ or glTF file the way Blender stores it: Z up."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".obj":
            bpy.ops.wm.obj_import(filepath=str(path), forward_axis="NEGATIVE_Z", up_axis="Y")
        elif suffix in (".glb", ".gltf"):
            bpy.ops.import_scene.gltf(filepath=str(path))
        else:
            raise ImportFailed(f"no importer for {suffix or 'a file without suffix'}")
    except RuntimeError as error:
        # An operator reports every failure of its own, bad file or missing file, this way.
        raise ImportFailed(str(error).strip()) from error


def write_library(mesh: bpy.types.Mesh, path: Path) -> None:
    """Write the mesh with its materials and packed images, completely or not at all."""
    partial = path.with_suffix(".partial.blend")
    bpy.data.libraries.write(str(partial), {mesh}, compress=True)
    partial.replace(path)


def write_geometry(mesh: bpy.types.Mesh, materials: SafeMaterials, path: Path) -> None:
    """Write the mesh's triangles as Blender holds them."""
    faces = read_ints(mesh.loops, "vertex_index", len(mesh.loops)).reshape(-1, 3)
    material = read_ints(mesh.polygons, "material_index", len(mesh.polygons))
    vertices = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", vertices)
    by_slot = np.array([materials.is_transparent[m.name] for m in mesh.materials], bool)
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial,
        vertices=vertices.reshape(-1, 3),
        faces=faces,
        transparent=by_slot[material],
    )
    partial.replace(path)


def read_ints(collection: Any, attribute: str, length: int) -> NDArray[np.int32]:
    """Return one integer attribute of a Blender collection."""
    values = np.empty(length, np.int32)
    collection.foreach_get(attribute, values)
    return values


def purge() -> None:
    """Remove every datablock but the scene, so that memory does not grow from job to job."""
    remove_all(*PURGED)
    bpy.data.orphans_purge(do_recursive=True)


def remove_all(*names: str) -> None:
    """Remove all datablocks of some kinds."""
    blocks = [block for name in names for block in getattr(bpy.data, name, ())]
    bpy.data.batch_remove(blocks)
