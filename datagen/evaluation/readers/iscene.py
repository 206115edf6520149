"""I-Scene: ``<scene>/instance_XX.glb`` with XX the mask's 1-based label, and ``scene_pred.glb``.

Source: the release's ``iscene/inference/inferencer.py``. Y up, [−0.5, 0.5]³, in the scene's place;
nodes of ``scene_pred.glb`` are named ``instance_XX_<sub>``.
"""

import re
from pathlib import Path

from datagen.core.meshes import Mesh
from datagen.errors import RowError
from datagen.evaluation.readers.glb import merged, read_glb
from datagen.evaluation.readers.scenes import (
    ReadScene,
    SceneFormat,
    by_label,
    folders_with,
    one_mesh,
)

_LABEL = re.compile(r"instance_(\d+)")


def _find(path: Path) -> dict[str, Path]:
    return folders_with(path, "instance_*.glb") or folders_with(path, "scene_pred.glb")


def _read(folder: Path) -> ReadScene:
    files = {int(m[1]): f for f in sorted(folder.glob("*.glb")) if (m := _LABEL.fullmatch(f.stem))}
    if files:
        return by_label({label: one_mesh(file) for label, file in files.items()}, folder)
    return by_label(labelled_nodes(folder / "scene_pred.glb"), folder)


def labelled_nodes(path: Path, *, may_be_empty: bool = False) -> dict[int, Mesh | None]:
    """Return the nodes ``instance_XX…`` by XX; several nodes of one number are one instance.

    Returns:
        Vertices (V, 3), Z up, and faces (F, 3) of each; None if it has no surface.

    Raises:
        RowError: a node has another name.
    """
    parts: dict[int, list[Mesh | None]] = {}
    for name, mesh in read_glb(path, may_be_empty=may_be_empty):
        matched = _LABEL.match(name)
        if matched is None:
            raise RowError(
                f"{path}: holds a node {name!r}; expected instance_XX with XX the number of the "
                "instance. Name its format with --format (glb takes nodes in their order)."
            )
        parts.setdefault(int(matched[1]), []).append(mesh)
    return {label: merged(meshes) for label, meshes in parts.items()}


ISCENE = SceneFormat(_find, _read, (-0.5, 0.5))
