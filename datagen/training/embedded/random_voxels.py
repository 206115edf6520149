"""Random occupancy grids from the geometry of asset folders, for training and scoring.

A scene has 2 to 12 objects, 0.6 to 1.2 m long, with random rotations, apart from each other on a
disk. A random camera gives the view-centric frame.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.core.cameras import look_at
from datagen.core.frames import placement_matrix
from datagen.core.meshes import Mesh, transform_mesh
from datagen.errors import DatasetError
from datagen.voxels import Grids, view_centric_transform, voxelize_views


def find_geometry(asset_folders: Sequence[Path]) -> list[Path]:
    """Return the geometry files of asset folders, sorted by name.

    Raises:
        DatasetError: there are none.
    """
    paths = [path for folder in asset_folders for path in (folder / "geometry").glob("*.npz")]
    if not paths:
        raise DatasetError(
            f"{', '.join(map(str, asset_folders))}: no geometry/*.npz. Expected a folder that "
            "`datagen assets` made; run it, or name another folder."
        )
    return sorted(paths, key=lambda path: path.name)


def is_held_out(path: Path, share: float = 0.1) -> bool:
    """Return whether a geometry file is held out for scoring, by a hash of its asset_id."""
    digest = hashlib.sha256(path.stem.encode()).digest()
    return int.from_bytes(digest[:4], "little") < share * 2**32


@lru_cache(maxsize=2000)
def read_geometry(path: Path) -> Mesh:
    """Return vertices (V, 3), metres, base at z = 0, and faces (F, 3) of one asset."""
    with np.load(path) as arrays:
        return arrays["vertices"], arrays["faces"]


def sample_object(path: Path, rng: np.random.Generator) -> Grids:
    """Return one grid (1, 64, 64, 64), bool, of an object that fills it."""
    vertices, faces = read_geometry(path)
    return voxelize_views([(vertices, faces)], _sample_frame(vertices, rng)[None])[0, :1]


def sample_random_scene(paths: Sequence[Path], rng: np.random.Generator) -> Grids:
    """Return a random scene's grids (N + 1, 64, 64, 64), bool: the scene, then its N objects."""
    num_objects = int(rng.integers(2, 13))
    chosen = [read_geometry(paths[index]) for index in rng.integers(len(paths), size=num_objects)]
    scales = [
        rng.uniform(0.6, 1.2) / float(np.ptp(vertices, axis=0).max()) for vertices, _ in chosen
    ]
    radii = [
        scale * float(np.linalg.norm(vertices[:, :2], axis=1).max())
        for scale, (vertices, _) in zip(scales, chosen, strict=True)
    ]
    meshes = []
    for mesh, scale, centre in zip(chosen, scales, _sample_centres(radii, rng), strict=True):
        to_world = placement_matrix(np.append(centre, 0.0), rng.uniform(0, 2 * np.pi), scale)
        meshes.append(transform_mesh(to_world, mesh))
    everything = np.concatenate([vertices for vertices, _ in meshes])
    grids: Grids = voxelize_views(meshes, _sample_frame(everything, rng)[None])[0]
    return grids


def _sample_centres(
    radii_m: Sequence[float], rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Return centres (2,), metres, of disks that are apart, inside a disk that grows as needed."""
    gap = rng.uniform(0.0, 0.5) * float(np.mean(radii_m))
    region = max(radii_m)
    centres: list[NDArray[np.float64]] = []
    for index, radius in enumerate(radii_m):
        while True:
            angle, distance = rng.uniform(0, 2 * np.pi), region * np.sqrt(rng.uniform())
            centre = distance * np.array([np.cos(angle), np.sin(angle)])
            if all(
                np.hypot(*(centre - other)) >= radius + radii_m[i] + gap
                for i, other in enumerate(centres[:index])
            ):
                break
            region *= 1.03
        centres.append(centre)
    return centres


def _sample_frame(
    vertices: NDArray[np.floating[Any]], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return ``world_to_canonical`` (4, 4) of a camera in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    eye = np.array([np.cos(angle), np.sin(angle), 0.5])
    return view_centric_transform(look_at(eye, np.zeros(3)), vertices)
