"""Time ``voxelize_surface`` beside Open3D on the same meshes, and count voxels that differ.

``python benchmarks/voxelize.py [--assets FOLDER ...]``; without assets, on spheres, tori and boxes.
Open3D's time includes reading its list of voxels, since without it there is no grid. Times are
processor time of one thread, the best of a few runs, so a busy machine changes them little.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open3d
import trimesh
import tyro
from numpy.typing import NDArray

from datagen.core.meshes import Mesh
from datagen.training.embedded.random_voxels import find_geometry, read_geometry
from datagen.voxels import voxelize_surface
from datagen.voxels.view_centric import LONGEST_SIDE


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare the two."""

    assets: tuple[Path, ...] = ()
    """Asset folders; every few of their objects are taken."""

    num_meshes: int = 40
    """How many."""

    repeats: int = 5
    """Runs of each; the fastest counts."""


def open3d_voxels(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return Open3D's surface voxels (64, 64, 64)."""
    mesh = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(vertices), open3d.utility.Vector3iVector(faces)
    )
    voxels = open3d.geometry.VoxelGrid.create_from_triangle_mesh_within_bounds(
        mesh, voxel_size=1 / 64, min_bound=(-0.5,) * 3, max_bound=(0.5,) * 3
    ).get_voxels()
    grid = np.zeros((64, 64, 64), np.bool_)
    grid[tuple(np.array([voxel.grid_index for voxel in voxels]).T)] = True
    return grid


def read_meshes(config: Compare) -> dict[str, Mesh]:
    """Return meshes that fill the box, by name."""
    if config.assets:
        paths = find_geometry(config.assets)
        paths = paths[:: max(1, len(paths) // config.num_meshes)][: config.num_meshes]
        meshes = {path.stem[:16]: read_geometry(path) for path in paths}
    else:
        rotation = trimesh.transformations.rotation_matrix(0.6, (1, 2, 3))
        made = {
            "sphere": trimesh.creation.icosphere(5),
            "torus": trimesh.creation.torus(1.0, 0.3, 128, 64),
            "box": trimesh.creation.box((1, 1, 1)),
            "rotated box": trimesh.creation.box((1, 2, 3), transform=rotation),
        }
        meshes = {name: (mesh.vertices, mesh.faces) for name, mesh in made.items()}
    return {name: (_fill_box(v), np.asarray(f, np.int32)) for name, (v, f) in meshes.items()}


def _fill_box(vertices: NDArray[np.floating]) -> NDArray[np.float64]:
    vertices = np.asarray(vertices, np.float64)
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return (vertices - (low + high) / 2) * (LONGEST_SIDE / (high - low).max())


def fastest(function: Callable[[], NDArray[np.bool_]], repeats: int) -> tuple[float, int]:
    """Return the shortest processor time of a call, milliseconds, and its number of voxels."""
    times = []
    for _ in range(repeats):
        started = time.thread_time()
        grid = function()
        times.append(time.thread_time() - started)
    return 1e3 * min(times), int(grid.sum())


def main(config: Compare) -> None:
    """Print a line a mesh and the ratio of the summed times."""
    meshes = read_meshes(config)
    voxelize_surface(*next(iter(meshes.values())))  # compiled before the clock starts
    ours, theirs, different = [], [], 0
    for name, (vertices, faces) in meshes.items():
        ms, voxels = fastest(lambda v=vertices, f=faces: voxelize_surface(v, f), config.repeats)
        their_ms, _ = fastest(lambda v=vertices, f=faces: open3d_voxels(v, f), config.repeats)
        differ = np.count_nonzero(
            voxelize_surface(vertices, faces) != open3d_voxels(vertices, faces)
        )
        print(
            f"{name:16s} {len(faces):7d} faces {voxels:6d} voxels, {differ} differ   "
            f"{ms:6.2f} ms  Open3D {their_ms:7.2f} ms  ×{their_ms / ms:.1f}"
        )
        ours.append(ms)
        theirs.append(their_ms)
        different += differ
    ratios = np.array(theirs) / np.array(ours)
    total, their_total = sum(ours), sum(theirs)
    print(
        f"{len(meshes)} meshes, {different} voxels differ; {total:.1f} ms, Open3D "
        f"{their_total:.1f} ms: ×{their_total / total:.1f} in all, median ×{np.median(ratios):.1f}"
    )


if __name__ == "__main__":
    main(tyro.cli(Compare))
