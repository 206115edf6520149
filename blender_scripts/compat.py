"""The code that differs between the supported versions of Blender."""

from pathlib import Path

import bpy

SUPPORTED = {(4, 2): "4.2 LTS", (4, 5): "4.5 LTS", (5, 0): "5.0"}
"""The versions in which ``make test-blender-matrix`` passes."""

ZSTANDARD = bytes.fromhex("28b52ffd")


class WrongBlender(Exception):
    """This version of Blender cannot do any of the work."""


def check_supported() -> None:
    """Check that this version of Blender is supported.

    Raises:
        WrongBlender: it is not; the message lists the supported versions.
    """
    if bpy.app.version[:2] not in SUPPORTED:
        raise WrongBlender(
            f"Blender {bpy.app.version_string} is not supported. Expected one of "
            f"{', '.join(SUPPORTED.values())}; name one with --blender."
        )


def import_fbx(path: str) -> None:
    """Import an FBX file. Blender 4.5 has a new importer, which also reads text and old files."""
    if bpy.app.version >= (4, 5):
        bpy.ops.wm.fbx_import(filepath=path, use_anim=False)
    else:
        bpy.ops.import_scene.fbx(filepath=path, use_anim=False)


def import_dae(path: str) -> None:
    """Import a Collada file.

    Raises:
        RuntimeError: Blender is 5.0 or newer, which has no importer.
    """
    if bpy.app.version >= (5, 0):
        raise RuntimeError(
            f"Blender {bpy.app.version_string} reads no Collada files; 4.2 LTS and 4.5 LTS do. "
            "Name one of them with --blender, or convert the file to glTF."
        )
    bpy.ops.wm.collada_import(filepath=path)


def append_mesh(path: str, name: str) -> bpy.types.Mesh:
    """Return a mesh from a .blend file, with its materials and images.

    Files of newer versions are refused, because Blender ignores what it does not know in them.

    Args:
        path: absolute path of the file.
        name: the mesh's name.

    Raises:
        WrongBlender: a newer version wrote the file.
        ValueError: the file has no such mesh.
    """
    try:
        with bpy.data.libraries.load(path, link=False) as (inside, wanted):
            if name not in inside.meshes:
                raise ValueError(f"{path}: has meshes {list(inside.meshes)}; expected {name!r}")
            wanted.meshes = [name]
    except OSError as error:
        # Blender 5.0 changed the start of the file, so 4.2 does not recognise it.
        if bpy.app.version >= (4, 5) or not _is_compressed(path):
            raise
        raise WrongBlender(f"{str(error).strip()}. {_too_new(path, 'perhaps 5.0')}") from None
    version = _forget_library(path)
    if version[:2] > bpy.app.version[:2]:
        raise WrongBlender(_too_new(path, f"{version[0]}.{version[1]}"))
    return wanted.meshes[0]


def _forget_library(path: str) -> tuple[int, int, int]:
    """Remove the record of a file that was read; return the version of Blender that wrote it."""
    [library] = [item for item in bpy.data.libraries if bpy.path.abspath(item.filepath) == path]
    version = tuple(library.version)
    bpy.data.libraries.remove(library)
    return version


def _is_compressed(path: str) -> bool:
    """Return whether a file exists and is Zstandard-compressed, as prepared files are."""
    file = Path(path)
    return file.is_file() and file.read_bytes()[:4] == ZSTANDARD


def _too_new(path: str, version: str) -> str:
    return (
        f"{path} was prepared by a newer Blender ({version}) than this one "
        f"({bpy.app.version_string}). Expected the same version or an older one; use the newer "
        "Blender with --blender, or prepare the objects again with this one."
    )
