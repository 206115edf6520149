"""What differs between the Blenders that are supported; all else is the same code for each."""

from pathlib import Path

import bpy

SUPPORTED = {(4, 2): "4.2 LTS", (4, 5): "4.5 LTS", (5, 0): "5.0"}
"""Those in which the tests of ``make test-blender-matrix`` pass."""


ZSTANDARD = bytes.fromhex("28b52ffd")


class WrongBlender(Exception):
    """This Blender cannot do the work, whichever row it is."""


def check_supported() -> None:
    """Refuse a Blender in which nobody has tried these scripts.

    Raises:
        WrongBlender: with the list of supported versions.
    """
    if bpy.app.version[:2] not in SUPPORTED:
        raise WrongBlender(
            f"Blender {bpy.app.version_string} is not supported. Expected one of "
            f"{', '.join(SUPPORTED.values())}; name one with --blender."
        )


def import_fbx(path: str) -> None:
    """Import an FBX file. The importer that reads text files and old ones came with 4.5."""
    if bpy.app.version >= (4, 5):
        bpy.ops.wm.fbx_import(filepath=path, use_anim=False)
    else:
        bpy.ops.import_scene.fbx(filepath=path, use_anim=False)


def import_dae(path: str) -> None:
    """Import a Collada file.

    Raises:
        RuntimeError: Blender has no importer since 5.0.
    """
    if bpy.app.version >= (5, 0):
        raise RuntimeError(
            f"Blender {bpy.app.version_string} reads no Collada files; 4.2 LTS and 4.5 LTS do. "
            "Name one of them with --blender, or convert the file to glTF."
        )
    bpy.ops.wm.collada_import(filepath=path)


def append_mesh(path: str, name: str) -> bpy.types.Mesh:
    """Load a mesh, with its materials and pictures, from a .blend file.

    Blender reads the files of older versions faithfully, but of newer ones, if at all, only what
    it understands.

    Args:
        path: absolute.
        name: the mesh's.

    Raises:
        WrongBlender: a newer version wrote the file.
        ValueError: it holds no such mesh.
    """
    try:
        with bpy.data.libraries.load(path, link=False) as (inside, wanted):
            if name not in inside.meshes:
                raise ValueError(f"{path}: has meshes {list(inside.meshes)}; expected {name!r}")
            wanted.meshes = [name]
    except OSError as error:
        # Blender 5.0 changed how a file begins, which 4.2 does not recognise.
        if bpy.app.version >= (4, 5) or not _is_compressed(path):
            raise
        raise WrongBlender(f"{str(error).strip()}. {_too_new(path, 'perhaps 5.0')}") from None
    version = _forget_library(path)
    if version[:2] > bpy.app.version[:2]:
        raise WrongBlender(_too_new(path, f"{version[0]}.{version[1]}"))
    return wanted.meshes[0]


def _forget_library(path: str) -> tuple[int, int, int]:
    """Remove what Blender remembers of a file that was read; return the version that wrote it."""
    [library] = [item for item in bpy.data.libraries if bpy.path.abspath(item.filepath) == path]
    version = tuple(library.version)
    bpy.data.libraries.remove(library)
    return version


def _is_compressed(path: str) -> bool:
    """Say whether a file begins as prepared ones do; a lost or overwritten one does not."""
    file = Path(path)
    return file.is_file() and file.read_bytes()[:4] == ZSTANDARD


def _too_new(path: str, version: str) -> str:
    return (
        f"{path} was prepared by a newer Blender ({version}) than this one "
        f"({bpy.app.version_string}). Expected the same version or an older one; take that "
        "Blender with --blender, or prepare the objects anew with this one."
    )
