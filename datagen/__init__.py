"""Training data, trainer and evaluation for image-to-3D-scene models.

``from datagen import Workspace, stages`` and the other names below are public, and so is what the
packages ``core``, ``evaluation``, ``layouts``, ``models``, ``sampling``, ``shards``, ``training``
and ``voxels`` list in their ``__all__``. Everything else is private and may change.

Making data:

- ``stages``: one class a verb, ``stages.SampleLayouts(num_layouts=100)``; its fields decide the
  bytes of what it makes. ``run_stage(stage, "dataset")`` makes it in a workspace.
- ``Pipeline``, ``load_pipeline``: a stage for each verb; the named ones are files in ``pipelines``
  (``load_pipeline("demo")``, or ``from datagen.pipelines.demo import PIPELINE``).
- ``LocalExecutor``, ``RayExecutor``, ``RunOptions``: where and how ``run_stage`` runs it.

Reading data:

- ``Folder``: a local folder or a URL. ``Dataset``, ``open_dataset``: the rows of a sealed folder.
- ``Workspace``: the datasets of all stages in one folder, joined.
- ``SceneLoader``: training samples, in one order for any number of processes.
- ``decode_view``, ``unpack_occupancy``: a stored row as arrays. ``color_instances``,
  ``draw_voxels``: arrays as images.

Parts that work alone:

- ``rng_for``, ``sphere_directions``, ``sample_layout``, ``find_support``, ``voxelize_surface``,
  ``view_centric_transform``: randomness, cameras, layouts, voxels.
- ``load_model``, ``sample_flow``: networks and sampling.
- ``robust_icp``, ``score_scene``: registration and scores.

Importing this package takes milliseconds: a name is imported when it is first used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Threads that wait by spinning take the cores from whoever has work: beside one other busy
# process, training was 18 times slower. Read when torch loads its threads, hence here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:  # the same names as in _HOMES, for type checkers; a test compares them
    from datagen import stages as stages
    from datagen.core.seeding import rng_for as rng_for
    from datagen.engine.stage import RunOptions as RunOptions
    from datagen.evaluation import robust_icp as robust_icp
    from datagen.evaluation import score_scene as score_scene
    from datagen.executors.local import LocalExecutor as LocalExecutor
    from datagen.executors.ray import RayExecutor as RayExecutor
    from datagen.layouts import find_support as find_support
    from datagen.layouts import sample_layout as sample_layout
    from datagen.models import load_model as load_model
    from datagen.run import run_stage as run_stage
    from datagen.sampling import sample_flow as sample_flow
    from datagen.shards import Dataset as Dataset
    from datagen.shards import Folder as Folder
    from datagen.shards import open_dataset as open_dataset
    from datagen.shards.workspace import Workspace as Workspace
    from datagen.stages.pipeline import Pipeline as Pipeline
    from datagen.stages.pipeline import load_pipeline as load_pipeline
    from datagen.training import SceneLoader as SceneLoader
    from datagen.views.directions import sphere_directions as sphere_directions
    from datagen.views.passes import decode_view as decode_view
    from datagen.voxels import unpack_occupancy as unpack_occupancy
    from datagen.voxels import view_centric_transform as view_centric_transform
    from datagen.voxels import voxelize_surface as voxelize_surface
    from datagen.voxels.drawing import color_instances as color_instances
    from datagen.voxels.drawing import draw_voxels as draw_voxels

_HOMES = {
    "rng_for": "datagen.core.seeding",
    "RunOptions": "datagen.engine.stage",
    "robust_icp": "datagen.evaluation",
    "score_scene": "datagen.evaluation",
    "LocalExecutor": "datagen.executors.local",
    "RayExecutor": "datagen.executors.ray",
    "find_support": "datagen.layouts",
    "sample_layout": "datagen.layouts",
    "load_model": "datagen.models",
    "run_stage": "datagen.run",
    "sample_flow": "datagen.sampling",
    "Dataset": "datagen.shards",
    "Folder": "datagen.shards",
    "open_dataset": "datagen.shards",
    "Workspace": "datagen.shards.workspace",
    "Pipeline": "datagen.stages.pipeline",
    "load_pipeline": "datagen.stages.pipeline",
    "SceneLoader": "datagen.training",
    "sphere_directions": "datagen.views.directions",
    "decode_view": "datagen.views.passes",
    "unpack_occupancy": "datagen.voxels",
    "view_centric_transform": "datagen.voxels",
    "voxelize_surface": "datagen.voxels",
    "color_instances": "datagen.voxels.drawing",
    "draw_voxels": "datagen.voxels.drawing",
}
"""The module of each public name."""

__all__ = ["stages", *_HOMES]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "stages":
        return import_module("datagen.stages")
    if name not in _HOMES:
        raise AttributeError(f"module 'datagen' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
