"""MIDI-3D: one GLB a scene, ``geometry_0`` … in the order of the masks.

Source: MIDI's ``scripts/inference_midi.py`` (``output.glb``) and the test step of
``systems/system_midi.py`` (``it<s>-test-<r>_<b>-<house-room>_scene.glb``). Coordinates lie within
the bounds of its marching cubes, ±1.005. A GLB of a single instance beside a scene is no scene.
"""

import re
from pathlib import Path

from datagen.evaluation.readers.glb import read_glb
from datagen.evaluation.readers.scenes import ReadScene, SceneFormat, folders_with, glb_files

_TEST_SCENE = re.compile(r"it\d+-test-\d+_\d+-(.+)_scene")
_TEST_FILE = re.compile(r"it\d+-test-")
_NUMBER = re.compile(r"(\d+)$")


def _find(path: Path) -> dict[str, Path]:
    if path.is_file():
        return {_scene_id(path) or path.stem: path}
    scenes: dict[str, Path] = {}
    for file in glb_files(path).values():
        if (scene_id := _scene_id(file)) is not None:
            scenes[scene_id] = file
    for scene_id, folder in folders_with(path, "output.glb").items():
        scenes[scene_id] = folder / "output.glb"
    return dict(sorted(scenes.items()))


def _scene_id(file: Path) -> str | None:
    """Return the scene that a file is of; None for a single instance of the test step."""
    if matched := _TEST_SCENE.fullmatch(file.stem):
        return matched[1]
    if _TEST_FILE.match(file.stem):
        return None
    return file.parent.resolve().name if file.stem == "output" else file.stem


def _read(path: Path) -> ReadScene:
    nodes = read_glb(path)
    numbers = [_NUMBER.search(name) for name, _ in nodes]
    if all(numbers):  # geometry_10 stands after geometry_9 wherever an exporter put it
        pairs = zip(numbers, nodes, strict=True)
        nodes = [node for _, node in sorted(pairs, key=lambda p: int(p[0][1]) if p[0] else 0)]
    return ReadScene(tuple(mesh for _, mesh in nodes))


MIDI = SceneFormat(_find, _read, (-1.005, 1.005))
