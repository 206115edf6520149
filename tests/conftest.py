"""What tests of several folders share."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh

from datagen.blender.executable import blender_command, chosen_blender
from tests.shards.tiny import make_workspace


@pytest.fixture(scope="session")
def run_in_blender(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Return a function that runs a script in the Blender under test; ``sys.argv`` ends with words.

    That is the one that DATAGEN_BLENDER names, else this Python's bpy.
    """
    folder = tmp_path_factory.mktemp("scripts")

    def run(script: str, *words: str | Path) -> None:
        path = folder / f"{hash(script):x}.py"
        path.write_text(script)
        command = [*blender_command(chosen_blender(None), path), *map(str, words)]
        subprocess.run(command, check=True, capture_output=True)

    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sound workspace of four small scenes; only to be read."""
    return make_workspace(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster  # noqa: TID251

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield made
    made.shutdown()


WRITE_PREPARED = r"""
import bpy, json, numpy, sys
for spec in json.load(open(sys.argv[-1])):
    mesh = bpy.data.meshes.new("asset")
    mesh.from_pydata(spec["vertices"], [], spec["faces"])
    material = bpy.data.materials.new("material")
    material.use_nodes = True
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = [*spec["color"], 1.0]
    shader.inputs["Alpha"].default_value = spec["alpha"]
    if spec["glow"]:
        shader.inputs["Base Color"].default_value = [0.0, 0.0, 0.0, 1.0]
        shader.inputs["Specular IOR Level"].default_value = 0.0
        shader.inputs["Emission Color"].default_value = [*spec["color"], 1.0]
        shader.inputs["Emission Strength"].default_value = 1.0
    mesh.materials.append(material)
    bpy.data.libraries.write(spec["path"], {mesh}, compress=True)
    bpy.data.meshes.remove(mesh)
"""


Write = Callable[..., Path]


@pytest.fixture(scope="session")
def write_prepared(
    tmp_path_factory: pytest.TempPathFactory, run_in_blender: Callable[..., None]
) -> Write:
    """Return a function that writes prepared .blend files with one plain material each."""
    folder = tmp_path_factory.mktemp("prepared")

    def write(
        name: str,
        mesh: trimesh.Trimesh,
        color: tuple[float, float, float] = (0.6, 0.3, 0.2),
        *,
        alpha: float = 1.0,
        glow: bool = False,
        copies: int = 1,
    ) -> Path:
        spec = {
            "vertices": np.asarray(mesh.vertices, np.float32).tolist(),
            "faces": mesh.faces.tolist(),
            "color": color,
            "alpha": alpha,
            "glow": glow,
        }
        paths = [
            folder / (f"{name}.blend" if not i else f"{name}-{i}.blend") for i in range(copies)
        ]
        jobs = folder / f"{name}.json"
        jobs.write_text(json.dumps([spec | {"path": str(path)} for path in paths]))
        run_in_blender(WRITE_PREPARED, jobs)
        return paths[0]

    return write
