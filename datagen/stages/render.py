"""``datagen render``: renders views of every scene, without those that hide an object."""

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

LAST_RETRY_DIVISOR = 4
"""The last retry of a failing scene divides the number of samples by this."""

Camera = tuple[Floats, Floats]
"""world_to_camera (4, 4) and intrinsics (3, 3)."""

Quality = Literal["draft", "standard", "reference"]
PRESETS: dict[Quality, tuple[int, bool]] = {
    # Samples per pixel, and whether the image is denoised.
    "draft": (4, True),
    "standard": (8, True),
    "reference": (128, True),  # as TRELLIS renders
}


@dataclass(frozen=True, kw_only=True)
class RenderViews(UnitStage):
    """Render every scene from all directions, and drop views in which an object is not visible.

    Visibility is decided by ray casting, before Cycles renders the kept views. Cameras, masks and
    visibility are reproducible to the byte. The pixels of Cycles may differ in the last bits
    between processors.
    """

    name: ClassVar[str] = "render"
    table: ClassVar[Table] = RENDERS
    revision: ClassVar[int] = 2
    reads: ClassVar[tuple[Table, ...]] = (ASSETS, LAYOUTS)
    uses_gpu: ClassVar[bool] = True

    num_views: Annotated[int, tyro.conf.arg(aliases=["--views"])] = 150
    """Views per scene, before views are dropped."""
    resolution_px: int = 512
    """Width and height of the images in pixels."""
    fov_deg: float = 40.0
    """Field of view in degrees, horizontal and vertical."""
    directions: Literal["hammersley", "fibonacci", "trellis"] = "hammersley"
    """Sequence of camera directions on the sphere. hammersley and fibonacci are evenly spaced;
    trellis is the warped Hammersley sequence of TRELLIS."""
    elevation_range_deg: tuple[float, float] = (-90.0, 90.0)
    """Lowest and highest elevation of the cameras in degrees."""
    min_visible_px: int = 1
    """A view is dropped if fewer pixels of any object are visible."""
    min_visible_fraction: float = 0.0
    """A view is dropped if the visible share of any object's silhouette is smaller."""
    passes: tuple[Pass, ...] = ()
    """Passes stored in addition to the image and the instance map: depth, normals, amodal masks."""
    light: LightName = "studio"
    """studio: fixed soft sun lamps. trellis: the lamps of TRELLIS. random: sun lamps drawn for each
    scene. hdri: a sky drawn for each scene."""
    hdri_folder: Path | None = content(lambda stage: stage.skies(), default=None, name="hdris")
    """Folder of .hdr and .exr images for --light hdri. Their content, not their place, is part of
    the dataset's identity."""
    ground: bool = False
    """Add a plane under the scene that shows only shadows. It is not in the masks, and is invisible
    from below."""
    quality: Quality = how("standard")  # decides through samples and denoise
    """Samples per pixel, always denoised: draft 4, standard 8, reference 128 (as TRELLIS)."""
    samples: int | None = resolved(lambda stage: stage.cycles[0], default=None)
    """Cycles samples per pixel. By default those of --quality."""
    denoise: bool | None = resolved(lambda stage: stage.cycles[1], default=None)
    """Denoise with Open Image Denoise (fast mode). By default as --quality."""
    scenes_per_shard: int = 8
    """Scenes per shard (one Parquet file)."""
    seed: int = 0
    """Random seed of the camera directions, of the lights and of the noise of Cycles."""

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
                f"light is {self.light} and hdri_folder is {self.hdri_folder}. Expected both or "
                "neither of --light hdri and --hdri-folder FOLDER."
            )
        if not 8 <= self.resolution_px <= 8192:
            raise ConfigError(f"resolution_px must lie in [8, 8192], got {self.resolution_px}.")
        if not 1 <= self.fov_deg <= 150:
            raise ConfigError(f"fov_deg must lie in [1, 150], got {self.fov_deg}.")
        low, high = self.elevation_range_deg
        if not -90 <= low < high <= 90:
            raise ConfigError(
                f"elevation_range_deg must be two angles in [-90, 90], lowest first, "
                f"got {low} {high}."
            )

    @cached_property
    def cycles(self) -> tuple[int, bool]:
        """Samples per pixel, and whether the image is denoised; ``quality`` gives the defaults."""
        samples, denoise = PRESETS[self.quality]
        return (
            samples if self.samples is None else self.samples,
            denoise if self.denoise is None else self.denoise,
        )

    @cached_property
    def hdris(self) -> list[Path]:
        """The sky images to draw from, sorted by name."""
        return [] if self.hdri_folder is None else list_hdris(self.hdri_folder)

    def skies(self) -> str | None:
        """Return the sha256 of all sky images; None without any."""
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
        """Return the number of kept and dropped views, and whether a fallback was used (0 or 1)."""
        kept = sum(row["kept"] for row in rows)
        fallbacks = sum(row["fallback"] is not None for row in rows[:1])
        return {"kept": kept, "dropped": len(rows) - kept, "fallbacks": fallbacks}

    def _render_with(
        self, less: bool, layout_id: int, scene: SceneMeshes, blender: BlenderProcess
    ) -> list[Row]:
        """Return a scene's rows; ``less``: on the CPU instead of the GPU, else fewer samples."""
        stage, note = self, None
        if less and blender.cycles_device == "GPU":
            note = "cpu"
        elif less:
            stage = replace(self, samples=max(1, self.cycles[0] // LAST_RETRY_DIVISOR))
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
        """Return the rows of one scene, one per view.

        Ray casting decides which views are kept; Blender renders only these.

        Raises:
            Disagreement: see ``check_agreement``.
        """
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
        images = dict(zip(kept, render_views(blender, job) if kept else [], strict=True))
        check_agreement({index: (images[index], seen[index]) for index in kept}, ground=self.ground)
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
                "rgb": images.get(index),
                "instance_map": png(seen[index].instance_map) if index in images else None,
            }
            | (pass_columns(seen[index], self.passes) if index in images else NO_PASSES)
            for index, (world_to_camera, intrinsics) in enumerate(cameras)
        ]

    def summarise(self, output: Output) -> dict[str, Any]:
        """Return the counts of kept views, dropped views by reason, and scenes without views."""
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
        """Return the ``num_views`` cameras of a scene."""
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
        """Return the job that renders a scene's kept views in Blender."""
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
    """Check that the rendered images of a scene agree with its ray casting.

    Args:
        views: a view's PNG bytes and its visibility from ray casting, by view index.
        ground: whether the images show shadows on a ground plane.

    Raises:
        Disagreement: over all views together, the alpha channel and the instance map differ in
            more than MAX_DISAGREEMENT of the pixels.
    """
    wrong: dict[int, int] = {}
    pixels = 0
    for index, (image, seen) in views.items():
        rgba = read_rgba(image)
        excused = seen.transparent_map
        if ground:
            excused = excused | shadow_map(rgba, seen.instance_map)
        wrong[index] = disagreement(rgba[..., 3], seen.instance_map, excused)
        pixels += seen.instance_map.size
    total = sum(wrong.values())
    if total > MAX_DISAGREEMENT * pixels:
        worst = max(wrong, key=lambda index: wrong[index])
        raise Disagreement(
            f"the image and the rays disagree in {total} of {pixels} pixels "
            f"({total / pixels:.2%}, at most {MAX_DISAGREEMENT:.2%} may; worst: view {worst}). "
            "The prepared asset and its geometry differ, or a material is transparent unmarked"
        )
