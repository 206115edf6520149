"""Measure how near the images of each quality come to those of 1,024 samples.

``python benchmarks/render_quality.py --root WORKSPACE``, with assets and layouts in it. PSNR is
taken over whole sRGB images on black, as networks see them, and over covered pixels alone, where
the noise of edges weighs more.
"""

import tempfile
import time
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import tyro

from datagen.blender import BlenderProcess, RenderJob, render_views
from datagen.shards.workspace import Workspace
from datagen.stages.render import PRESETS, RenderViews
from datagen.views.passes import read_rgba
from datagen.views.selection import drop_reason
from datagen.views.visibility import RaycastingScene

TRUTH_SEED = 1 << 20  # other noise than that of what is measured


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Measure the qualities."""

    root: Path
    """A workspace with assets and layouts."""
    num_scenes: int = 6
    views_per_scene: int = 1
    resolution_px: int = 256
    truth_samples: int = 1024
    qualities: tuple[str, ...] = (*PRESETS, "8 noisy", "16 denoised", "128 noisy")
    """Presets, or samples and ``denoised`` or ``noisy``."""


def kept_views(options: Measure) -> list[RenderJob]:
    """Return a job a scene with its first kept views."""
    workspace = Workspace.at(options.root)
    stage = RenderViews(num_views=16, resolution_px=options.resolution_px)
    size = options.resolution_px
    jobs = []
    for layout in islice(workspace.require("layouts", "benchmark"), options.num_scenes):
        scene = workspace.scene_meshes(layout, prepared=True)
        cameras = stage.cameras(layout["layout_id"], scene)
        geometry = RaycastingScene(scene.meshes, scene.transparent)
        seen = [geometry.cast_view(*camera, size, size) for camera in cameras]
        kept = [
            index
            for index, view in enumerate(seen)
            if drop_reason(view.visible_px, view.amodal_px) is None
        ]
        kept = kept[:: max(1, len(kept) // options.views_per_scene)][: options.views_per_scene]
        jobs.append(stage.render_job(layout["layout_id"], scene, cameras, seen, kept))
    return jobs


def images(
    blender: BlenderProcess, jobs: list[RenderJob], samples: int, denoise: bool, seed: int = 0
) -> tuple[list[np.ndarray], float]:
    """Return images (H, W, 4) in [0, 1], and the seconds that a view took."""
    start = time.perf_counter()
    made = []
    for job in jobs:
        views = [replace(view, seed=view.seed % TRUTH_SEED + seed) for view in job.views]
        made += render_views(blender, replace(job, views=views, samples=samples, denoise=denoise))
    seconds = time.perf_counter() - start
    return [read_rgba(data) / 255 for data in made], seconds / len(made)


def psnr(truth: np.ndarray, image: np.ndarray) -> tuple[float, float]:
    """Return dB over the whole image, and over what is covered in either."""
    on_black = [rgba[..., :3] * rgba[..., 3:] for rgba in (truth, image)]
    error = ((on_black[0] - on_black[1]) ** 2).mean(axis=2)
    covered = (truth[..., 3] > 0) | (image[..., 3] > 0)
    return -10 * float(np.log10(error.mean())), -10 * float(np.log10(error[covered].mean()))


def settings(quality: str) -> tuple[int, bool]:
    """Return samples and denoising of a preset or of words such as ``16 noisy``."""
    if quality in PRESETS:
        return PRESETS[quality]
    samples, word = quality.split()
    return int(samples), word == "denoised"


def main(options: Measure) -> None:
    """Print a row a quality."""
    jobs = kept_views(options)
    with (
        tempfile.TemporaryDirectory() as folder,
        BlenderProcess(Path(folder) / "blender.log", threads=1) as blender,
    ):
        truth, seconds = images(blender, jobs, options.truth_samples, False, TRUTH_SEED)
        print(f"{len(truth)} views at {options.resolution_px}²; truth {seconds:.1f} s a view")
        print(f"{'':14}{'s a view':>9}{'mean dB':>9}{'worst':>7}{'covered':>9}{'worst':>7}")
        for quality in options.qualities:
            made, seconds = images(blender, jobs, *settings(quality))
            found = np.array([psnr(*pair) for pair in zip(truth, made, strict=True)])
            mean, worst = found.mean(axis=0), found.min(axis=0)
            print(
                f"{quality:14}{seconds:9.2f}{mean[0]:9.1f}{worst[0]:7.1f}"
                f"{mean[1]:9.1f}{worst[1]:7.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Measure))
