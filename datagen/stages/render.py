"""``datagen render``: views of every scene, those with a fully occluded object dropped."""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image

from datagen.blender.process import BlenderProcess
from datagen.blender.rendering import PreparedPlacement, RenderJob, RenderView, render_views
from datagen.core.frames import Floats
from datagen.core.seeding import rng_for, seed_for
from datagen.errors import ConfigError, RowError
from datagen.shards import Output, Row
from datagen.shards.schemas import RENDERS
from datagen.stages.assets import log_path
from datagen.stages.scenes import SceneMeshes, SceneReader
from datagen.stages.stage import Inputs, Process, Stage, WorkerContext
from datagen.views.agreement import MAX_DISAGREEMENT, disagreement
from datagen.views.cameras import bounding_sphere, scene_views
from datagen.views.selection import drop_reason
from datagen.views.visibility import SceneGeometry, VisibleView

Camera = tuple[Floats, Floats]
"""world_to_camera (4, 4) and intrinsics (3, 3)."""


@dataclass(frozen=True, kw_only=True)
class RenderViews(Stage):
    """Render every scene from all directions; what cannot be kept is never traced.

    Cameras, masks and visibility are reproducible to the byte; Cycles' pixels may differ in the
    last bits between processors.
    """

    name: ClassVar[str] = "render"
    folder: ClassVar[str] = "renders"
    revision: ClassVar[int] = 1
    schema = RENDERS
    reads: ClassVar[tuple[str, ...]] = ("assets", "layouts")

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
    samples: int = 8
    """Cycles samples a pixel, before denoising."""
    denoise: bool = True
    """Open Image Denoise, fast."""
    scenes_per_shard: int = 8
    """Scenes a shard."""
    seed: int = 0
    """Of the views' offsets and of Cycles' noise."""

    def __post_init__(self) -> None:
        for field in ("num_views", "samples", "scenes_per_shard", "min_visible_px"):
            if getattr(self, field) < 1:
                raise ConfigError(f"{field} must be at least 1, got {getattr(self, field)}.")
        if not 8 <= self.resolution_px <= 8192:
            raise ConfigError(f"resolution_px must lie in [8, 8192], got {self.resolution_px}.")
        if not 1 <= self.fov_deg <= 150:
            raise ConfigError(f"fov_deg must lie in [1, 150], got {self.fov_deg}.")
        low, high = self.elevation_range_deg
        if not -90 <= low < high <= 90:
            raise ConfigError(
                f"elevation_range_deg must be lowest and highest in [-90, 90], got {low} {high}."
            )

    def units(self, inputs: Inputs) -> Sequence[int]:
        return inputs["layouts"].units()

    @contextmanager
    def open(self, inputs: Inputs, context: WorkerContext) -> Iterator[Process]:
        reader = SceneReader(inputs["assets"])
        log = log_path(context, self.name)
        with BlenderProcess(log, threads=context.threads) as blender:

            def process(layout_id: int) -> list[Row]:
                [layout] = inputs["layouts"].rows_of(layout_id)
                return self.render_scene(layout_id, reader.read(layout, prepared=True), blender)

            yield process

    def render_scene(
        self, layout_id: int, scene: SceneMeshes, blender: BlenderProcess
    ) -> list[Row]:
        """Return the rows of one scene: decide by rays, then trace what is kept."""
        size = self.resolution_px
        cameras = self._cameras(layout_id, scene)
        geometry = SceneGeometry(scene.meshes, scene.transparent)
        seen = [geometry.cast_view(*camera, size, size) for camera in cameras]
        reasons = [
            drop_reason(view.visible_px, view.amodal_px, min_visible_px=self.min_visible_px)
            for view in seen
        ]
        kept = [index for index, reason in enumerate(reasons) if reason is None]
        pictures = self._trace(layout_id, scene, cameras, seen, kept, blender)
        check_agreement({index: (pictures[index], seen[index]) for index in kept})
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
            for index, (world_to_camera, intrinsics) in enumerate(cameras)
        ]

    def summarise(self, output: Output) -> dict[str, Any]:
        """Count kept and dropped views, and scenes that have no view left."""
        kept: Counter[int] = Counter()
        dropped: Counter[str] = Counter()
        for row in output.rows(["layout_id", "kept", "drop_reason"]):
            kept[row["layout_id"]] += row["kept"]
            if not row["kept"]:
                dropped[row["drop_reason"].split(":")[0].replace(" ", "_")] += 1
        counts = {"kept": kept.total()}
        counts |= {f"dropped_{reason}": number for reason, number in sorted(dropped.items())}
        counts["scenes_without_views"] = sum(number == 0 for number in kept.values())
        return {"counts": counts}

    def _cameras(self, layout_id: int, scene: SceneMeshes) -> list[Camera]:
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

    def _trace(
        self,
        layout_id: int,
        scene: SceneMeshes,
        cameras: list[Camera],
        seen: list[VisibleView],
        kept: list[int],
        blender: BlenderProcess,
    ) -> dict[int, bytes]:
        """Return the pictures of the kept views by index."""
        if not kept:
            return {}
        job = RenderJob(
            placements=[
                PreparedPlacement(prepared_path=path, asset_to_world=matrix)
                for path, matrix in zip(scene.prepared_paths, scene.asset_to_world, strict=True)
            ],
            views=[
                RenderView(
                    world_to_camera=cameras[index][0],
                    intrinsics=cameras[index][1],
                    seed=seed_for(self.seed, self.name, layout_id, index),
                    window_px=seen[index].window_px,
                )
                for index in kept
            ],
            width=self.resolution_px,
            height=self.resolution_px,
            samples=self.samples,
            denoise=self.denoise,
        )
        return dict(zip(kept, render_views(blender, job), strict=True))


def check_agreement(views: dict[int, tuple[bytes, VisibleView]]) -> None:
    """Check a scene's pictures against its rays.

    Raises:
        RowError: pooled over the views, alpha and instance map differ in too many pixels.
    """
    wrong: dict[int, int] = {}
    pixels = 0
    for index, (picture, seen) in views.items():
        rgba = read_rgba(picture)
        wrong[index] = disagreement(rgba[..., 3], seen.instance_map, seen.transparent_map)
        pixels += seen.instance_map.size
    total = sum(wrong.values())
    if total > MAX_DISAGREEMENT * pixels:
        worst = max(wrong, key=lambda index: wrong[index])
        raise RowError(
            f"the picture and the rays disagree in {total} of {pixels} pixels "
            f"({total / pixels:.2%}, at most {MAX_DISAGREEMENT:.2%} may; worst: view {worst}). "
            "The prepared asset and its geometry differ, or a material is transparent unmarked"
        )


def png(array: NDArray[np.generic]) -> bytes:
    """Return an image (H, W) uint8 or uint16 as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def read_rgba(data: bytes) -> NDArray[np.uint8]:
    """Return a PNG as (H, W, 4) uint8, straight alpha, sRGB."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def read_instance_map(data: bytes) -> NDArray[Any]:
    """Return an instance map (H, W): 0 background, i + 1 placement i."""
    return np.asarray(Image.open(io.BytesIO(data)))
