"""Time the visibility of a scene's views on one core, beside rays through every pixel.

``python benchmarks/visibility.py [--assets FOLDER]``. Without assets it makes 48 procedural ones
first. The scenes hold 12 objects. The baseline casts each view's whole image once at the scene and
once at every object alone, with the same rays and the same Embree.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from datagen.core.cameras import camera_position
from datagen.shards.scenes import SceneMeshes
from datagen.shards.workspace import Workspace
from datagen.views.cameras import bounding_sphere, scene_views
from datagen.views.visibility import RaycastingScene, VisibleView


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Measure visibility."""

    assets: Path | None = None
    """An assets dataset to place."""

    num_layouts: int = 4
    """Scenes, of 12 objects each."""

    num_views: int = 150
    """Views a scene."""

    resolution_px: int = 256
    """Width and height of the images."""


class EveryPixel:
    """The baseline: no ray is left out."""

    def __init__(self, scene: SceneMeshes) -> None:
        low, high = scene.vertices.min(axis=0), scene.vertices.max(axis=0)
        self.center_m = (low + high) / 2
        self.whole = EmbreeScene(robust=True)
        self.alone = [EmbreeScene(robust=True) for _ in scene.meshes]
        for (vertices, faces), alone in zip(scene.meshes, self.alone, strict=True):
            for target in (self.whole, alone):
                TriangleMesh(target, np.float32(vertices - self.center_m), np.int32(faces))

    def counts(self, camera: np.ndarray, intrinsics: np.ndarray, size: int) -> list[list[int]]:
        """Return ``visible_px`` and ``amodal_px`` of one view."""
        moved = camera.copy()
        moved[:3, 3] += camera[:3, :3] @ self.center_m
        (fx, fy), (cx, cy) = np.diag(intrinsics)[:2], intrinsics[:2, 2]
        v, u = np.indices((size, size)).reshape(2, -1) + 0.5
        in_camera = np.column_stack([(u - cx) / fx, (v - cy) / fy, np.ones(size * size)])
        directions = np.float32(in_camera @ camera[:3, :3])
        origins = np.tile(np.float32(camera_position(moved)), (size * size, 1))
        first = self.whole.run(origins, directions, query="INTERSECT", output=True)["geomID"]
        visible = [(first == index).sum() for index in range(len(self.alone))]
        amodal = [
            (alone.run(origins, directions, query="OCCLUDED") >= 0).sum() for alone in self.alone
        ]
        return [visible, amodal]


def measure(scene: SceneMeshes, config: Measure) -> tuple[float, float]:
    """Return the seconds of a scene's views, ours and the baseline's, each set-up included."""
    size = config.resolution_px
    center_m, radius_m = bounding_sphere(scene.vertices)
    fov_rad = float(np.radians(40))
    cameras = scene_views(
        center_m, radius_m, config.num_views, fov_rad=fov_rad, width=size, height=size
    )

    started = time.process_time()
    geometry = RaycastingScene(scene.meshes, scene.transparent)
    ours: list[VisibleView] = [geometry.cast_view(*camera, size, size) for camera in cameras]
    ours_s = time.process_time() - started

    started = time.process_time()
    everywhere = EveryPixel(scene)
    theirs = [everywhere.counts(*camera, size) for camera in cameras]
    theirs_s = time.process_time() - started

    counts = np.array([[view.visible_px, view.amodal_px] for view in ours])
    wrong = np.abs(counts - np.array(theirs)).sum() / counts.sum()
    print(
        f"{len(scene.meshes)} objects, {sum(len(faces) for _, faces in scene.meshes)} triangles, "
        f"{len(cameras)} views at {size} px: {ours_s:.2f} s, every pixel {theirs_s:.2f} s, "
        f"{theirs_s / ours_s:.1f} times; counts differ by {wrong:.1e}"
    )
    return ours_s, theirs_s


def run_datagen(*arguments: str) -> None:
    """Run one command."""
    subprocess.run([sys.executable, "-m", "datagen.cli", *arguments], check=True)


def main(config: Measure) -> None:
    with tempfile.TemporaryDirectory(prefix="datagen-benchmark-") as scratch:
        if config.assets is None:
            run_datagen("assets", "--root", scratch)
        else:
            (Path(scratch) / "assets").symlink_to(config.assets.absolute())
        objects = ["--min-objects", "12", "--max-objects", "12"]
        run_datagen("layouts", "--n", str(config.num_layouts), *objects, "--root", scratch)
        workspace = Workspace.at(scratch)
        scenes = map(workspace.scene_meshes, workspace.require("layouts", "benchmark"))
        seconds = np.array([measure(scene, config) for scene in scenes])
    ours_s, theirs_s = seconds.mean(axis=0)
    print(
        f"a scene's views: {ours_s:.2f} s (slowest {seconds[:, 0].max():.2f} s), "
        f"every pixel {theirs_s:.2f} s: {theirs_s / ours_s:.1f} times"
    )


if __name__ == "__main__":
    main(tyro.cli(Measure))
