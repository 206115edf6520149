"""Boxes written as each method writes its scenes."""

from pathlib import Path

import numpy as np
import trimesh


def box(size: float, at=(0.0, 0.0, 0.0)) -> trimesh.Trimesh:
    mesh = trimesh.creation.box(extents=[size] * 3)
    mesh.apply_translation(at)
    return mesh


def write(path: Path, *meshes: trimesh.Trimesh, names=None, transforms=None) -> Path:
    scene = trimesh.Scene()
    for index, mesh in enumerate(meshes):
        name = names[index] if names else f"geometry_{index}"
        transform = transforms[index] if transforms else None
        scene.add_geometry(mesh, node_name=name, geom_name=name, transform=transform)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(scene.export(file_type="glb"))
    return path


def sizes(scene) -> list[float | None]:
    """The longest side of every instance, rounded; None where it is missing."""
    return [
        None if mesh is None else round(float(np.ptp(mesh[0], axis=0).max()), 4)
        for mesh in scene.meshes
    ]


def degenerate() -> trimesh.Trimesh:
    return trimesh.Trimesh([[0, 0, 0]], [[0, 0, 0]], process=False)
