"""Gen3DSR: ``rec_<scene>/reconstruction/<i>_<label>.glb`` an object, metres, the camera's frame.

OpenCV axes (x right, y down, z forward) become x right, y forward, z up. ``background.ply`` and
``full_scene.glb``, which holds the background too, are left out. Objects that failed have no file,
so the others are matched by overlap.
"""

import re
from pathlib import Path

import numpy as np

from datagen.evaluation.readers.scenes import (
    ReadScene,
    SceneFormat,
    folders_with,
    one_mesh,
    require_surface,
)

CAMERA_TO_Z_UP = np.array(
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
_OBJECT = re.compile(r"(\d+)(_.*)?")


def _find(path: Path) -> dict[str, Path]:
    here = folders_with(path, "reconstruction/*.glb")
    return {scene.removeprefix("rec_"): folder for scene, folder in sorted(here.items())}


def _read(folder: Path) -> ReadScene:
    numbered, left_out = [], []
    for file in sorted((folder / "reconstruction").iterdir()):
        matched = _OBJECT.fullmatch(file.stem)
        if file.suffix == ".glb" and matched is not None and "background" not in file.stem:
            numbered.append((int(matched[1]), file))
        else:
            left_out.append(file.name)
    files = [file for _, file in sorted(numbered)]
    meshes = tuple(one_mesh(file, CAMERA_TO_Z_UP) for file in files)
    return require_surface(ReadScene(meshes, tuple(left_out)), folder)


GEN3DSR = SceneFormat(_find, _read, None, "overlap")
