"""A folder of GLBs of any origin: ``<scene>.glb``, a node an instance, or ``<scene>/*.glb``.

Y up as glTF says. Nodes count in the order of the file, files in that of their names. Instances of
a scene without masks have no order of their own: they are matched by overlap.
"""

from pathlib import Path

from datagen.evaluation.readers.glb import read_glb
from datagen.evaluation.readers.scenes import (
    ReadScene,
    SceneFormat,
    glb_files,
    one_mesh,
    require_surface,
)


def _find(path: Path) -> dict[str, Path]:
    files = glb_files(path)
    below = {file.parent for file in path.glob("*/*.glb")}
    return dict(sorted({**{folder.name: folder for folder in below}, **files}.items()))


def _read(path: Path) -> ReadScene:
    if path.is_dir():
        meshes = tuple(one_mesh(file) for file in sorted(path.glob("*.glb")))
        return require_surface(ReadScene(meshes), path)
    return ReadScene(tuple(mesh for _, mesh in read_glb(path)))


GLB = SceneFormat(_find, _read, (-0.5, 0.5), "overlap")
ORDERED_GLB = SceneFormat(_find, _read, (-0.5, 0.5), "order")
