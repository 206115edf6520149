"""PartCrafter: ``<scene>/part_00.glb`` …, parts in any order, and ``object.glb``, all as one.

It sees no masks, so its parts are matched by overlap. A part that failed is a GLB with one face of
one point. Bounds ±1.005, Y up.
"""

from pathlib import Path

from datagen.evaluation.readers.scenes import (
    ReadScene,
    SceneFormat,
    folders_with,
    one_mesh,
    require_surface,
)


def _find(path: Path) -> dict[str, Path]:
    return folders_with(path, "part_*.glb")


def _read(folder: Path) -> ReadScene:
    parts = tuple(one_mesh(file) for file in sorted(folder.glob("part_*.glb")))
    return require_surface(ReadScene(parts), folder)


PARTCRAFTER = SceneFormat(_find, _read, (-1.005, 1.005), "overlap")
