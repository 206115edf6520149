"""Render jobs, and the images that they return."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from datagen.blender.process import BlenderProcess
from datagen.core.frames import Floats, camera_to_world_gl
from datagen.views.lights import STUDIO, Ground, Light

VIEWS_PER_CALL = 16  # images of a call are kept on disk; progress is reported between calls
SECONDS_FOR_A_SCENE = 120.0  # before the first view; then the time counts from the last view
SECONDS_PER_MEGASAMPLE = 60.0  # 100 times what a slow core needs: only a stuck Blender takes longer


@dataclass(frozen=True, kw_only=True)
class PreparedPlacement:
    """One prepared object and its position in the scene."""

    prepared_path: Path
    """A .blend file; its mesh named ``asset`` is rendered."""

    asset_to_world: Floats
    """(4, 4), metres, asset to z_up world."""


@dataclass(frozen=True, kw_only=True)
class RenderView:
    """One image to render."""

    world_to_camera: Floats
    """(4, 4), z_up world to cv camera."""

    intrinsics: Floats
    """(3, 3), pixels; square pixels, principal point at the image centre."""

    seed: int
    """Seed of Cycles' noise, below 2**31."""

    window_px: tuple[int, int, int, int] | None = None
    """Left, top, right and bottom (exclusive), pixels, of the part that is rendered; the rest stays
    empty. It saves a third of the time of a usual view. None: the whole image."""


@dataclass(frozen=True, kw_only=True)
class RenderJob:
    """One scene and the views to render of it."""

    placements: list[PreparedPlacement]
    views: list[RenderView]
    width: int
    height: int
    samples: int = 8
    """Cycles samples per pixel, before denoising."""

    denoise: bool = True
    """Whether to use Open Image Denoise, fast and without prefilter. 8 samples then look like 16
    samples with the accurate prefilter."""

    light: Light = STUDIO
    ground: Ground | None = None
    """None: no ground."""


def render_views(
    process: BlenderProcess, job: RenderJob, *, on_view: Callable[[int], None] | None = None
) -> list[bytes]:
    """Return one PNG per view of a scene: RGBA, 8 bit, straight alpha, sRGB.

    Args:
        process: the Blender that renders.
        job: the scene, its views and the quality.
        on_view: called every few views with the number of finished views.

    Raises:
        BlenderCrashed: Blender crashed or timed out on this scene.
        BlenderJobFailed: Blender reported an error for this scene.
        BlenderError: Blender cannot start, or is the wrong version.
        ValueError: intrinsics without square pixels or a centred principal point.
    """
    images: list[bytes] = []
    scene = {
        "placements": [_placement_field(placement) for placement in job.placements],
        "width": job.width,
        "height": job.height,
        "samples": job.samples,
        "denoise": job.denoise,
        "threads": process.threads or 0,
        "light": _light_field(job.light),
        "ground": asdict(job.ground) if job.ground else None,
    }
    views = iter(job.views)
    while batch := list(islice(views, VIEWS_PER_CALL)):
        images += _render_batch(process, scene, batch)
        if on_view is not None:
            on_view(len(images))
    return images


def without_ancillary_chunks(png: bytes) -> bytes:
    """Return a PNG file without its ancillary chunks.

    Cycles writes the render time into them, so the same image would have different bytes.
    """
    kept, position = [png[:8]], 8
    while position < len(png):
        end = position + 12 + int.from_bytes(png[position : position + 4])  # length, name, CRC
        is_critical = png[position + 4 : position + 5].isupper()  # by the definition of PNG
        if is_critical:
            kept.append(png[position:end])
        position = end
    return b"".join(kept)


def _render_batch(
    process: BlenderProcess, scene: dict[str, Any], views: list[RenderView]
) -> list[bytes]:
    megasamples = scene["width"] * scene["height"] * (scene["samples"] + 4) / 1e6
    with tempfile.TemporaryDirectory(dir=process.scratch) as folder:
        paths = [Path(folder) / f"{index:03d}.png" for index in range(len(views))]
        fields = [
            _view_field(view, scene["width"], scene["height"]) | {"path": str(path)}
            for view, path in zip(views, paths, strict=True)
        ]
        process.call(
            "render",
            timeout_s=SECONDS_FOR_A_SCENE + SECONDS_PER_MEGASAMPLE * megasamples,
            views=fields,
            **scene,
        )
        return [without_ancillary_chunks(path.read_bytes()) for path in paths]


def _placement_field(placement: PreparedPlacement) -> dict[str, Any]:
    return {
        "prepared_path": str(placement.prepared_path.resolve()),
        "asset_to_world": placement.asset_to_world.ravel().tolist(),
    }


def _light_field(light: Light) -> dict[str, Any]:
    return asdict(light) | {"hdri": str(light.hdri.resolve()) if light.hdri else None}


def _view_field(view: RenderView, width: int, height: int) -> dict[str, Any]:
    focal_px = view.intrinsics[0, 0]
    expected = np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]])
    if not np.allclose(view.intrinsics, expected, atol=1e-9):
        raise ValueError(
            f"intrinsics are {view.intrinsics.tolist()}; Blender's camera has square pixels and "
            f"its principal point at ({width / 2}, {height / 2})"
        )
    left, top, right, bottom = view.window_px or (0, 0, width, height)
    return {
        "camera_to_world_gl": camera_to_world_gl(view.world_to_camera).ravel().tolist(),
        "fov_rad": 2 * float(np.arctan(max(width, height) / 2 / focal_px)),
        "seed": view.seed,
        "border": [left / width, 1 - bottom / height, right / width, 1 - top / height],
    }
