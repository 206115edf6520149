"""This project's own predictions: ``<layout_id>_<view_index>/scene.glb``, or a workspace of them.

Y up, [−0.5, 0.5]³, a node ``instance_XX`` an instance, XX the placement's index from 0.
"""

import json
from pathlib import Path

from datagen.evaluation.readers.iscene import labelled_nodes
from datagen.evaluation.readers.scenes import ReadScene, SceneFormat, folders_with


def _find(path: Path) -> dict[str, Path]:
    inside = path / "predictions"
    return folders_with(inside if inside.is_dir() else path, "scene.glb")


def _read(folder: Path) -> ReadScene:
    """Return one entry a placement; ``meta.json`` knows of those that came out empty."""
    meta = folder / "meta.json"
    stated = int(json.loads(meta.read_text())["num_instances"]) if meta.is_file() else 0
    nodes = labelled_nodes(folder / "scene.glb", may_be_empty=stated > 0)
    num_instances = max([stated - 1, *nodes]) + 1
    return ReadScene(tuple(nodes.get(index) for index in range(num_instances)))


DATAGEN = SceneFormat(_find, _read, (-0.5, 0.5))
