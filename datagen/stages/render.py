"""``datagen render``: views of every scene, those with a fully occluded object dropped."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import tyro

from datagen.blender.failures import Disagreement
from datagen.blender.process import BlenderProcess
from datagen.blender.rendering import PreparedPlacement, RenderJob, RenderView, render_views
from datagen.blender.retries import retry
from datagen.core.fields import content, how, resolved
from datagen.core.frames import Floats
from datagen.core.seeding import rng_for, seed_for
from datagen.engine.logs import workspace_of
from datagen.engine.stage import Inputs
from datagen.engine.units import Process, UnitStage, WorkerContext
from datagen.errors import ConfigError
from datagen.shards import Output, Row
from datagen.shards.declared import ASSETS, LAYOUTS, RENDERS
from datagen.shards.scenes import SceneMeshes, SceneReader
from datagen.shards.tables import Table
from datagen.stages.worker_blender import worker_blender
from datagen.views.agreement import MAX_DISAGREEMENT, disagreement, shadow_map
from datagen.views.cameras import bounding_sphere, scene_views
from datagen.views.lights import LightName, build_light, ground_under, list_hdris
from datagen.views.passes import NO_PASSES, Pass, pass_columns, png, read_rgba
from datagen.views.selection import drop_reason
from datagen.views.visibility import RaycastingScene, VisibleView

FEWER = 4
"""A scene that cannot be rendered as asked is tried at last with so many times fewer samples."""

Camera = tuple[Floats, Floats]
"""world_to_camera (4, 4) and intrinsics (3, 3)."""

Quality = Literal["draft", "standard", "reference"]
PRESETS: dict[Quality, tuple[int, bool]] = {
    # Samples a pixel, and whether they are denoised.
    "draft": (4, True),
    "standard": (8, True),
    "reference": (128, True),  # as TRELLIS renders
}


@dataclass(frozen=True, kw_only=True)
class RenderViews(UnitStage):
    """Render every scene from all directions; what cannot be kept is never traced.

    Cameras, masks and visibility are reproducible to the byte; Cycles' pixels may differ in the
    last bits between processors.
    """

    name: ClassVar[str] = "render"
    table: ClassVar[Table] = RENDERS
    revision: ClassVar[int] = 2
    reads: ClassVar[tuple[Table, ...]] = (ASSETS, LAYOUTS)
    uses_gpu: ClassVar[bool] = True

    num_views: Annotated[int, tyro.conf.arg(aliases=["--views"])] = 150
    """Views a scene, before any is dropped."""
    resolution_px: int = 512
    """Width and height of the images."""
    fov_deg: float = 40.0
    """Field of view."""
    directions: Literal["hammersley", "fibonacci", "trellis"] = "hammersley"
    """How the views are spread over the sphere; trellis is TRELLIS's warped sequence."""
    elevation_range_deg: tuple[float, float] = (-90.0, 90.0)
    """Lowest and highest elevation of a camera."""
    min_visible_px: int = 1
    """A view is dropped if any object shows fewer pixels."""
    min_visible_fraction: float = 0.0
    """A view is dropped if any object shows a smaller share of its own silhouette."""
    passes: tuple[Pass, ...] = ()
    """What is stored beside picture and instance map: depth, normal, amodal."""
    light: LightName = "studio"
    """Soft fixed suns, TRELLIS's lamps, suns drawn a scene, or a sky drawn a scene."""
    hdri_folder: Path | None = content(lambda stage: stage.skies(), default=None, name="hdris")
    """The .hdr and .exr pictures of the light hdri; known by their content."""
    ground: bool = False
    """A plane under the scene that catches shadows: never in the masks, unseen from below."""
    quality: Quality = how("standard")  # decides through samples and denoise
    """Samples and denoising: 4 denoised, 8 denoised, or 128 denoised as TRELLIS."""
    samples: int | None = resolved(lambda stage: stage.cycles[0], default=None)
    """Cycles samples a pixel, before denoising; the quality's own by default."""
    denoise: bool | None = resolved(lambda stage: stage.cycles[1], default=None)
    """Open Image Denoise, fast; the quality's own by default."""
    scenes_per_shard: int = 8
    """Scenes a shard."""
    seed: int = 0
    """Of the views' offsets and of Cycles' noise."""

    def __post_init__(self) -> None:
        for name in ("num_views", "samples", "scenes_per_shard", "min_visible_px"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}.")
        if not 0 <= self.min_visible_fraction <= 1:
            raise ConfigError(
                f"min_visible_fraction must lie in [0, 1], got {self.min_visible_fraction}."
            )
        if (self.light == "hdri") != (self.hdri_folder is not None):
            raise ConfigError(
                f"light is {self.light} and hdri_folder is {self.hdri_folder}; expected both or "
                "neither of --light hdri and --hdri-folder FOLDER."
            )
        if not 8 <= self.resolution_px <= 8192:
            raise ConfigError(f"resolution_px must lie in [8, 8192], got {self.resolution_px}.")
        if not 1 <= self.fov_deg <= 150:
            raise ConfigError(f"fov_deg must lie in [1, 150], got {self.fov_deg}.")
        low, high = self.elevation_range_deg
        if not -90 <= low < high <= 90:
            raise ConfigError(
                f"elevation_range_deg must be lowest and highest in [-90, 90], got {low} {high}."
            )

    @cached_property
    def cycles(self) -> tuple[int, bool]:
        """Samples a pixel and whether they are denoised, however it was said."""
        samples, denoise = PRESETS[self.quality]
        return (
            samples if self.samples is None else self.samples,
            denoise if self.denoise is None else self.denoise,
        )

    @cached_property
    def hdris(self) -> list[Path]:
        """The pictures of the skies to draw from, by name."""
        return [] if self.hdri_folder is None else list_hdris(self.hdri_folder)

    def skies(self) -> str | None:
        """Return the sha256 over the skies' files; None without any."""
        if not self.hdris:
            return None
        skies = hashlib.sha256()
        for path in self.hdris:
            skies.update(hashlib.sha256(path.read_bytes()).digest())
        return skies.hexdigest()

    def units(self, inputs: Inputs) -> Sequence[int]:
        return inputs["layouts"].units()

    @contextmanager
    def open(self, inputs: Inputs, context: WorkerContext) -> Iterator[Process]:
        reader = SceneReader(inputs["assets"])
        with worker_blender(context) as blender:

            def process(layout_id: int) -> list[Row]:
                [layout] = inputs["layouts"].rows_of(layout_id)
                scene = reader.read(layout, prepared=True)
                context.events["recycled"] += blender.begin_scene()
                replay = f"datagen {self.name} --only {layout_id} --root {workspace_of(folder)}"
                rows = retry(
                    lambda less: self._render_with(less, layout_id, scene, blender),
                    blender,
                    context.events,
                    replay,
                )
                if blender.device_in_use is not None:
                    context.events[f"on_{blender.device_in_use.lower()}"] += 1
                return rows

            folder = context.folder
            yield process

    def tally(self, rows: Sequence[Row]) -> dict[str, int]:
        """Count kept and dropped views, and scenes made with less than was asked for."""
        kept = sum(row["kept"] for row in rows)
        fallbacks = sum(row["fallback"] is not None for row in rows[:1])
        return {"kept": kept, "dropped": len(rows) - kept, "fallbacks": fallbacks}

    def _render_with(
        self, less: bool, layout_id: int, scene: SceneMeshes, blender: BlenderProcess
    ) -> list[Row]:
        """Render a scene as asked, or with less: on the CPU, or there with fewer samples."""
        stage, note = self, None
        if less and blender.cycles_device == "GPU":
            note = "cpu"
        elif less:
            stage = replace(self, samples=max(1, self.cycles[0] // FEWER))
            note = f"samples={stage.samples}"
        blender.cpu_only = note == "cpu"
        try:
            rows = stage.render_scene(layout_id, scene, blender)
        finally:
            blender.cpu_only = False
        return [row | {"fallback": note} for row in rows]

    def render_scene(
        self, layout_id: int, scene: SceneMeshes, blender: BlenderProcess
    ) -> list[Row]:
        """Return the rows of one scene: decide by rays, then trace what is kept."""
        size = self.resolution_px
        cameras = self.cameras(layout_id, scene)
        geometry = RaycastingScene(scene.meshes, scene.transparent)
        seen = [
            geometry.cast_view(
                *camera,
                size,
                size,
                amodal_masks="amodal" in self.passes,
                normals="normal" in self.passes,
            )
            for camera in cameras
        ]
        reasons = [
            drop_reason(
                view.visible_px,
                view.amodal_px,
                min_visible_px=self.min_visible_px,
                min_visible_fraction=self.min_visible_fraction,
            )
            for view in seen
        ]
        kept = [index for index, reason in enumerate(reasons) if reason is None]
        job = self.render_job(layout_id, scene, cameras, seen, kept)
        pictures = dict(zip(kept, render_views(blender, job) if kept else [], strict=True))
        check_agreement(
            {index: (pictures[index], seen[index]) for index in kept}, ground=self.ground
        )
        return [
            {
                "layout_id": layout_id,
                "view_index": index,
                "kept": reasons[index] is None,
                "drop_reason": reasons[index],
                "world_to_camera": world_to_camera,
                "intrinsics": intrinsics,
                "width": size,
                "height": size,
                "visible_px": seen[index].visible_px.tolist(),
                "amodal_px": seen[index].amodal_px.tolist(),
                "rgb": pictures.get(index),
                "instance_map": png(seen[index].instance_map) if index in pictures else None,
            }
            | (pass_columns(seen[index], self.passes) if index in pictures else NO_PASSES)
            for index, (world_to_camera, intrinsics) in enumerate(cameras)
        ]

    def summarise(self, output: Output) -> dict[str, Any]:
        """Count kept and dropped views, and scenes that have no view left."""
        kept: Counter[int] = Counter()
        dropped: Counter[str] = Counter()
        fallbacks = set()
        for row in output.rows(["layout_id", "kept", "drop_reason", "fallback"]):
            fallbacks |= {row["layout_id"]} if row["fallback"] else set()
            kept[row["layout_id"]] += row["kept"]
            if not row["kept"]:
                dropped[row["drop_reason"].split(":")[0].replace(" ", "_")] += 1
        counts = {"kept": kept.total()}
        counts |= {f"dropped_{reason}": number for reason, number in sorted(dropped.items())}
        counts["scenes_without_views"] = sum(number == 0 for number in kept.values())
        if fallbacks:
            counts["scenes_with_fallback"] = len(fallbacks)
        return {"counts": counts}

    def cameras(self, layout_id: int, scene: SceneMeshes) -> list[Camera]:
        """Return the cameras of a scene's views."""
        center_m, radius_m = bounding_sphere(scene.vertices)
        rng = rng_for(self.seed, self.name, layout_id)
        low, high = np.radians(self.elevation_range_deg)
        return scene_views(
            center_m,
            radius_m,
            self.num_views,
            fov_rad=float(np.radians(self.fov_deg)),
            width=self.resolution_px,
            height=self.resolution_px,
            method=self.directions,
            offset=(float(rng.random()), float(rng.random())),
            elevation_range_rad=(float(low), float(high)),
        )

    def render_job(
        self,
        layout_id: int,
        scene: SceneMeshes,
        cameras: list[Camera],
        seen: list[VisibleView],
        kept: list[int],
    ) -> RenderJob:
        """Return what Blender is to render: the views of a scene that are kept."""
        samples, denoise = self.cycles
        rng = rng_for(self.seed, self.name, layout_id, "light")
        return RenderJob(
            placements=[
                PreparedPlacement(prepared_path=path, asset_to_world=matrix)
                for path, matrix in zip(scene.prepared_paths, scene.asset_to_world, strict=True)
            ],
            views=[
                RenderView(
                    world_to_camera=cameras[index][0],
                    intrinsics=cameras[index][1],
                    seed=seed_for(self.seed, self.name, layout_id, index),
                    window_px=None if self.ground else seen[index].window_px,
                )
                for index in kept
            ],
            width=self.resolution_px,
            height=self.resolution_px,
            samples=samples,
            denoise=denoise,
            light=build_light(self.light, scene.vertices, rng, self.hdris),
            ground=ground_under(scene.vertices) if self.ground else None,
        )


def check_agreement(views: dict[int, tuple[bytes, VisibleView]], *, ground: bool = False) -> None:
    """Check a scene's pictures against its rays.

    Args:
        views: a view's PNG and what its rays met, by index.
        ground: whether shadows on a ground are in the pictures.

    Raises:
        Disagreement: pooled over the views, alpha and instance map differ in too many pixels.
    """
    wrong: dict[int, int] = {}
    pixels = 0
    for index, (picture, seen) in views.items():
        rgba = read_rgba(picture)
        excused = seen.transparent_map
        if ground:
            excused = excused | shadow_map(rgba, seen.instance_map)
        wrong[index] = disagreement(rgba[..., 3], seen.instance_map, excused)
        pixels += seen.instance_map.size
    total = sum(wrong.values())
    if total > MAX_DISAGREEMENT * pixels:
        worst = max(wrong, key=lambda index: wrong[index])
        raise Disagreement(
            f"the picture and the rays disagree in {total} of {pixels} pixels "
            f"({total / pixels:.2%}, at most {MAX_DISAGREEMENT:.2%} may; worst: view {worst}). "
            "The prepared asset and its geometry differ, or a material is transparent unmarked"
        )
