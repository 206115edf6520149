"""Import of one model file, of any format that this Blender reads."""

from collections.abc import Callable
from pathlib import Path

import bpy

from compat import import_dae, import_fbx


class ImportFailed(Exception):
    """The importer could not read the file."""


def import_model(path: Path) -> float:
    """Import a model file into the scene and return the metres per Blender unit.

    FBX, USD, DAE and BLEND files come Z up and in metres, Alembic files, which have no unit, Z up.
    All other formats are read as Y up. Metres per unit differ from 1 only for .blend files.

    Raises:
        ImportFailed: there is no importer, or it failed.
    """
    importer = IMPORTERS.get(path.suffix.lower())
    if importer is None:
        raise ImportFailed(f"no importer for {path.suffix or 'a file without suffix'}")
    try:
        importer(str(path))
    except (RuntimeError, AttributeError) as error:
        # Operators and compat report failures as RuntimeError. An operator that this Blender was
        # built without gives an AttributeError.
        raise ImportFailed(str(error).strip()) from error
    scale = bpy.context.scene.unit_settings.scale_length
    return float(scale) if path.suffix.lower() == ".blend" else 1.0


def import_obj(path: str) -> None:
    bpy.ops.wm.obj_import(filepath=path, forward_axis="NEGATIVE_Z", up_axis="Y")


def import_gltf(path: str) -> None:
    bpy.ops.import_scene.gltf(filepath=path)


def import_stl(path: str) -> None:
    bpy.ops.wm.stl_import(filepath=path, forward_axis="NEGATIVE_Z", up_axis="Y")


def import_ply(path: str) -> None:
    bpy.ops.wm.ply_import(filepath=path, forward_axis="NEGATIVE_Z", up_axis="Y")


def import_usd(path: str) -> None:
    bpy.ops.wm.usd_import(
        filepath=path, import_cameras=False, import_lights=False, set_frame_range=False
    )


def import_abc(path: str) -> None:
    bpy.ops.wm.alembic_import(filepath=path, set_frame_range=False)


def import_blend(path: str) -> None:
    """Open a .blend file's active scene without running its scripts."""
    bpy.ops.wm.open_mainfile(filepath=path, load_ui=False, use_scripts=False)


IMPORTERS: dict[str, Callable[[str], None]] = {
    ".obj": import_obj,
    ".glb": import_gltf,
    ".gltf": import_gltf,
    ".stl": import_stl,
    ".ply": import_ply,
    ".fbx": import_fbx,
    ".dae": import_dae,
    ".usd": import_usd,
    ".usda": import_usd,
    ".usdc": import_usd,
    ".usdz": import_usd,
    ".abc": import_abc,
    ".blend": import_blend,
}
"""By suffix. datagen.assets.formats has the axes and the unit of each."""
