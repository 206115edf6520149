"""The files of a sampled scene: GLBs, occupancy, preview, and ``meta.json``."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.blender import BlenderProcess
from datagen.errors import RowError
from datagen.sampling.appearance import Appearance
from datagen.sampling.gaussian_ply import write_gaussian_ply
from datagen.sampling.surfaces import (
    instance_name,
    surface_from_logits,
    write_instance_glbs,
    write_scene_glb,
)
from datagen.sampling.textured_mesh import write_textured_glb
from datagen.sampling.textured_previews import render_textured
from datagen.shards import Row
from datagen.voxels.drawing import write_preview

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """A sampled scene with N instances."""

    logits: NDArray[np.float32]
    """(N + 1, R, R, R), the scene first; above 0 is occupied."""
    appearances: Mapping[int, Appearance] | None
    """Of each instance with a surface, by index. None: only structures were sampled."""


def write_prediction(
    folder: Path,
    predicted: Prediction,
    rgba: NDArray[np.uint8],
    instance_map: NDArray[np.integer[Any]],
    true_instances: NDArray[np.bool_] | None,
    row: Row,
    blender: BlenderProcess | None = None,
) -> list[int]:
    """Write the files of one sampled scene; return the empty instances, which have no GLB node.

    The files are ``scene.glb``, ``instance_XX.glb`` and, with Gaussians, ``instance_XX.ply``,
    ``occupancy.npz``, ``preview.png``, and last ``meta.json``.

    Args:
        folder: of this scene; made if missing.
        predicted: the scene.
        rgba: (H, W, 4), the input image, straight alpha, sRGB.
        instance_map: (H, W), 0 for background, i + 1 for instance i.
        true_instances: (N, R, R, R), true occupancy for the preview, if known.
        row: what ``meta.json`` holds in addition.
        blender: renders the textured scene for the preview, if given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    occupied = predicted.logits > 0
    meta: Row = dict(row)
    if predicted.appearances is None:
        surfaces = {i: surface_from_logits(grid) for i, grid in enumerate(predicted.logits[1:])}
        empty = write_scene_glb(folder / "scene.glb", surfaces)
        write_instance_glbs(folder, surfaces)
    else:
        write_appearances(folder, predicted.appearances)
        empty = [i for i in range(len(occupied) - 1) if i not in predicted.appearances]
        meta["surfaces"] = surface_report(predicted.appearances)
    textured = _render(blender, folder) if predicted.appearances else None
    np.savez_compressed(folder / "occupancy.npz", scene=occupied[0], instances=occupied[1:])
    panels = (rgba, occupied[1:], true_instances, instance_map, textured)
    write_preview(folder / "preview.png", *panels)
    names = [instance_name(i) for i in range(len(occupied) - 1)]
    meta |= {"instances": names, "empty_instances": empty}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    return empty


def write_appearances(folder: Path, appearances: Mapping[int, Appearance]) -> None:
    """Write the textured scene, each textured instance, and its Gaussians if it has any."""
    write_textured_glb(folder / "scene.glb", {i: one.mesh for i, one in appearances.items()})
    for index, one in appearances.items():
        name = instance_name(index)
        write_textured_glb(folder / f"{name}.glb", {index: one.mesh})
        if one.gaussians is not None:
            write_gaussian_ply(folder / f"{name}.ply", one.gaussians)


def surface_report(appearances: Mapping[int, Appearance]) -> dict[str, Row]:
    """Return per instance: faces after and before decimation, and whether it is watertight."""
    return {
        instance_name(index): {
            "faces": len(one.mesh.faces),
            "source_faces": one.mesh.num_source_faces,
            "watertight": one.mesh.watertight,
        }
        for index, one in appearances.items()
    }


def _render(blender: BlenderProcess | None, folder: Path) -> NDArray[np.uint8] | None:
    if blender is None:
        return None
    try:
        return render_textured(blender, folder / "scene.glb")
    except RowError as error:
        logger.warning(f"infer: {folder.name}: the preview lacks the textured scene ({error})")
        return None
