"""Time ``datagen render``'s way beside TRELLIS's toolkit's way, on the same scenes and views.

``python benchmarks/render.py --root WORKSPACE`` with assets and layouts in it. The baseline does
what ``dataset_toolkits/render.py`` does, written anew: a Blender process a scene that imports the
objects' GLB files, then a render call a view, whole image, 128 samples, denoised, TRELLIS's lamps,
no data kept between views; views are judged after they were rendered. The GLB files are exported
first, untimed. Both use one thread. Seconds are processor time of all processes that took part, so
other work on the machine changes them little.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import tyro

from datagen.blender import BlenderProcess, render_views
from datagen.core.frames import camera_to_world_gl
from datagen.shards.scenes import SceneMeshes
from datagen.shards.workspace import Workspace
from datagen.stages.render import PRESETS, RenderViews, check_agreement
from datagen.views.lights import trellis_light
from datagen.views.passes import png
from datagen.views.selection import drop_reason
from datagen.views.visibility import RaycastingScene

PUBLISHED_VIEWS = 150
REPEATS = 3  # of what happens inside Blender, the best of which counts

EXPORT = """
import bpy, json, sys
for source, target in json.load(open(sys.argv[1])):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    with bpy.data.libraries.load(source) as (inside, wanted):
        wanted.meshes = ["asset"]
    item = bpy.data.objects.new("asset", wanted.meshes[0])
    bpy.context.scene.collection.objects.link(item)
    bpy.ops.export_scene.gltf(filepath=target, export_format="GLB")
"""

BASELINE = """
import bpy, json, sys, time
from mathutils import Matrix
job = json.load(open(sys.argv[1]))
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
for item in job["objects"]:
    bpy.ops.import_scene.gltf(filepath=item["path"], merge_vertices=True, import_shading="NORMALS")
    top = [o for o in bpy.context.selected_objects if o.parent is None]
    for o in top:
        o.matrix_world = Matrix(item["matrix"]) @ o.matrix_world
for lamp in job["lamps"]:
    data = bpy.data.lights.new("lamp", lamp["kind"])
    data.energy = lamp["power"]
    if lamp["kind"] == "AREA":
        data.size = lamp["size"]
    o = bpy.data.objects.new("lamp", data)
    o.location = lamp["position_m"]
    scene.collection.objects.link(o)
scene.render.engine = "CYCLES"
scene.render.resolution_x = scene.render.resolution_y = job["size"]
scene.render.film_transparent = True
scene.render.image_settings.file_format = "PNG"
scene.render.image_settings.color_mode = "RGBA"
scene.render.threads_mode, scene.render.threads = "FIXED", 1
cycles = scene.cycles
cycles.samples, cycles.use_denoising, cycles.use_adaptive_sampling = 128, True, job["adaptive"]
cycles.pixel_filter_type, cycles.filter_width = "BOX", 1.0
cycles.diffuse_bounces = cycles.glossy_bounces = 1
cycles.transparent_max_bounces = cycles.transmission_bounces = 3
camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
camera.data.angle = job["fov_rad"]
scene.collection.objects.link(camera)
scene.camera = camera
ready = time.process_time()
for index, matrix in enumerate(job["cameras"]):
    camera.matrix_world = Matrix(matrix)
    scene.render.filepath = f"{job['folder']}/{index:03d}.png"
    bpy.ops.render.render(write_still=True)
print("SECONDS", time.process_time() - ready)
"""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare the two ways."""

    root: Path
    """A workspace with assets and layouts."""
    num_scenes: int = 2
    num_views: int = 6
    """Views a scene; the cost of a scene is also divided by 150 views."""
    resolution_px: int = 256
    with_baseline: bool = True
    """Off: only where our own time goes."""
    baseline_adaptive: bool = False
    """Let the baseline stop early where noise is low, as newer Blenders do unless told."""


@dataclass
class Spent:
    """Seconds by phase, a scene's and its views'."""

    scene: dict[str, float]
    views: dict[str, float]

    def a_view(self, num_scenes: int, kept: int, kept_a_scene: float) -> float:
        """Return seconds a kept view, if a scene had so many of them."""
        once = sum(self.scene.values()) / num_scenes
        return sum(self.views.values()) / kept + once / kept_a_scene


class Clock:
    """Adds up seconds of processor time by phase: this process's and its Blender's."""

    def __init__(self, blender: BlenderProcess) -> None:
        self._pid = blender.hello["pid"]
        self._last = self._now()

    def _now(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rsplit(")", 1)[1].split()
        user, system = (int(ticks) for ticks in fields[11:13])
        return time.process_time() + (user + system) / os.sysconf("SC_CLK_TCK")

    def lap(self, into: dict[str, float], phase: str) -> None:
        """Add the time since the last lap to a phase."""
        now = self._now()
        into[phase] = into.get(phase, 0.0) + now - self._last
        self._last = now


def ours(
    stage: RenderViews, scenes: list[tuple[int, SceneMeshes]], blender: BlenderProcess
) -> tuple[Spent, int]:
    """Render as the stage does, phase by phase, and return what it took and the views kept."""
    spent, kept_views = Spent({}, {}), 0
    clock = Clock(blender)
    size = stage.resolution_px
    for layout_id, scene in scenes:
        cameras = stage.cameras(layout_id, scene)
        geometry = RaycastingScene(scene.meshes, scene.transparent)
        clock.lap(spent.scene, "cameras, rays' tree")
        seen = [geometry.cast_view(*camera, size, size) for camera in cameras]
        reasons = [drop_reason(view.visible_px, view.amodal_px) for view in seen]
        kept = [index for index, reason in enumerate(reasons) if reason is None]
        clock.lap(spent.views, "rays")
        job = stage.render_job(layout_id, scene, cameras, seen, kept)
        images = render_views(blender, job)
        clock.lap(spent.views, "Blender")
        check_agreement(
            {index: (image, seen[index]) for index, image in zip(kept, images, strict=True)}
        )
        clock.lap(spent.views, "agreement (decoding)")
        for index in kept:
            png(seen[index].instance_map)
        clock.lap(spent.views, "instance maps to PNG")
        kept_views += len(kept)
    return spent, kept_views


def inside_blender(
    stage: RenderViews, scenes: list[tuple[int, SceneMeshes]], blender: BlenderProcess
) -> dict[str, float]:
    """Return seconds a kept view of what happens inside Blender, parts left out in turn."""
    samples, _ = stage.cycles
    times = {}
    for name, quality in {
        "none": (1, False),
        "sampled": (samples + 1, False),
        "denoised": (samples + 1, True),
    }.items():
        plain = RenderViews(
            num_views=stage.num_views,
            resolution_px=stage.resolution_px,
            samples=quality[0],
            denoise=quality[1],
        )
        runs = [ours(plain, scenes, blender) for _ in range(REPEATS)]
        times[name] = min(spent.views["Blender"] / kept for spent, kept in runs)
    sampling = times["sampled"] - times["none"]
    return {
        f"{samples} samples": sampling,
        "denoising": times["denoised"] - times["sampled"],
        "all else: sync, film, file": times["none"] - sampling / samples,
    }


def baseline(
    options: Compare, stage: RenderViews, scenes: list[tuple[int, SceneMeshes]], folder: Path
) -> tuple[Spent, int]:
    """Render as TRELLIS's toolkit does; return what it took and the views one would keep."""
    glbs = export_glbs(scenes, folder)
    spent, kept_views = Spent({}, {}), 0
    for layout_id, scene in scenes:
        low, high = scene.vertices.min(axis=0), scene.vertices.max(axis=0)
        lamps = trellis_light((low + high) / 2, float((high - low).max())).lamps
        cameras = stage.cameras(layout_id, scene)
        job = {
            "objects": [
                {"path": str(glbs[path]), "matrix": matrix.tolist()}
                for path, matrix in zip(scene.prepared_paths, scene.asset_to_world, strict=True)
            ],
            "lamps": [vars(lamp) for lamp in lamps],
            "cameras": [camera_to_world_gl(camera[0]).tolist() for camera in cameras],
            "fov_rad": float(np.radians(stage.fov_deg)),
            "size": stage.resolution_px,
            "folder": str(folder),
            "adaptive": options.baseline_adaptive,
        }
        start = sum(os.times()[2:4])  # of children that have ended
        said = run_inside_blender(BASELINE, job, folder)
        seconds = sum(os.times()[2:4]) - start
        rendering = float(said.split("SECONDS")[1].split()[0])
        spent.views["rendering"] = spent.views.get("rendering", 0.0) + rendering
        rest = spent.scene.get("process, import", 0.0)
        spent.scene["process, import"] = rest + seconds - rendering
        geometry = RaycastingScene(scene.meshes)
        seen = [geometry.cast_view(*camera, 256, 256) for camera in cameras]
        kept_views += sum(drop_reason(view.visible_px, view.amodal_px) is None for view in seen)
    return spent, kept_views


def export_glbs(scenes: list[tuple[int, SceneMeshes]], folder: Path) -> dict[Path, Path]:
    """Write a GLB of every object; return them by prepared path."""
    paths = sorted({path for _, scene in scenes for path in scene.prepared_paths})
    glbs = {path: folder / f"{path.stem}.glb" for path in paths}
    run_inside_blender(EXPORT, [[str(path), str(glb)] for path, glb in glbs.items()], folder)
    return glbs


def run_inside_blender(script: str, job: object, folder: Path) -> str:
    """Run a script in a fresh Blender and return what it printed."""
    (folder / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-c", script, str(folder / "job.json")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def show(name: str, spent: Spent, num_scenes: int, num_views: int) -> None:
    """Print where the time of one way went."""
    for phase, seconds in spent.scene.items():
        print(f"  {name:9} {phase:28}{1000 * seconds / num_scenes:10.1f} ms a scene")
    for phase, seconds in spent.views.items():
        print(f"  {name:9} {phase:28}{1000 * seconds / num_views:10.1f} ms a kept view")


def main(options: Compare) -> None:
    """Run both ways and print phases and ratio."""
    workspace = Workspace.at(options.root)
    layouts = islice(workspace.require("layouts", "benchmark"), options.num_scenes)
    scenes = [(row["layout_id"], workspace.scene_meshes(row, prepared=True)) for row in layouts]
    stage = RenderViews(num_views=options.num_views, resolution_px=options.resolution_px)
    samples, denoise = PRESETS["standard"]
    print(f"{len(scenes)} scenes of {options.num_views} views at {options.resolution_px}²")
    with tempfile.TemporaryDirectory() as folder:
        with BlenderProcess(Path(folder) / "blender.log", threads=1) as blender:
            ours(stage, scenes[:1], blender)  # Blender's start is once a worker, not a scene
            our_time, our_kept = ours(stage, scenes, blender)
            show("ours", our_time, len(scenes), our_kept)
            for phase, seconds in inside_blender(stage, scenes, blender).items():
                print(f"  ours      Blender: {phase:28}{1000 * seconds:10.1f} ms a kept view")
        if not options.with_baseline:
            return
        their_time, their_kept = baseline(options, stage, scenes, Path(folder))
        show("baseline", their_time, len(scenes), their_kept)
    print(f"ours: {samples} samples{', denoised' * denoise}; baseline: 128 samples, denoised")
    for views in (options.num_views, PUBLISHED_VIEWS):
        kept_a_scene = views * our_kept / (len(scenes) * options.num_views)
        our_s = our_time.a_view(len(scenes), our_kept, kept_a_scene)
        their_s = their_time.a_view(len(scenes), their_kept, kept_a_scene)
        print(
            f"{views:4} views a scene: ours {1 / our_s:.2f}, baseline {1 / their_s:.3f} "
            f"kept views/s: ×{their_s / our_s:.1f}"
        )


if __name__ == "__main__":
    main(tyro.cli(Compare))
