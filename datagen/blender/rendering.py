"""What a render job is, and how its pictures come back."""

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

VIEWS_PER_CALL = 16  # a call's pictures wait on disk; between calls, progress can be told
SECONDS_FOR_A_SCENE = 120.0  # before its first view; then the time counts from the last view
SECONDS_PER_MEGASAMPLE = 60.0  # 100 times what a slow core needs; only a hanging Blender takes it


@dataclass(frozen=True, kw_only=True)
class PreparedPlacement:
    """One prepared object where it stands."""

    prepared_path: Path
    """A .blend file whose mesh ``asset`` is rendered."""

    asset_to_world: Floats
    """(4, 4), metres, canonical asset to z_up world."""


@dataclass(frozen=True, kw_only=True)
class RenderView:
    """One picture to make."""

    world_to_camera: Floats
    """(4, 4), z_up world to cv camera."""

    intrinsics: Floats
    """(3, 3), pixels; square pixels, principal point at the image centre."""

    seed: int
    """Seed of Cycles' noise, below 2**31."""

    window_px: tuple[int, int, int, int] | None = None
    """Left, top, right, bottom (beyond the last): what is traced; the rest of the picture stays
    empty. A third of the time of a usual view is saved. None: all of it."""


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
    """Open Image Denoise, fast, no prefilter: 8 samples then look like 16 better denoised ones."""

    light: Light = STUDIO
    ground: Ground | None = None


def render_views(
    process: BlenderProcess, job: RenderJob, *, on_view: Callable[[int], None] | None = None
) -> list[bytes]:
    """Render a scene and return one PNG a view: RGBA, 8 bit, straight alpha, sRGB.

    Args:
        process: the Blender that renders.
        job: the scene, its cameras and the quality.
        on_view: told how many views are done, every few views.

    Raises:
        BlenderCrashed, BlenderJobFailed: this scene cannot be rendered.
    """
    pictures: list[bytes] = []
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
        pictures += _render_batch(process, scene, batch)
        if on_view is not None:
            on_view(len(pictures))
    return pictures


def without_remarks(png: bytes) -> bytes:
    """Return a PNG file without its ancillary chunks.

    Cycles writes the seconds it took into the file, so equal pictures would have other bytes.
    """
    kept, position = [png[:8]], 8
    while position < len(png):
        end = position + 12 + int.from_bytes(png[position : position + 4])  # length, name, CRC
        is_critical = png[position + 4 : position + 5].isupper()  # by the letter's case, in PNG
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
        return [without_remarks(path.read_bytes()) for path in paths]


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
