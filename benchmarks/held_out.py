"""How a model samples held-out views: what several scripts here share."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from datagen.core.seeding import seed_for
from datagen.evaluation.constant import fit_constant
from datagen.evaluation.formulas import voxel_iou
from datagen.models import SceneModel
from datagen.sampling.scenes import SamplerConfig, SceneImages, sample_scene
from datagen.shards import Dataset
from datagen.shards.splits import validation_layouts
from datagen.training import SceneLoader, SceneSample, SceneSource, StreamConfig, decode_sample
from datagen.voxels import unpack_occupancy


@dataclass(frozen=True)
class View:
    """A view that is sampled, and the truth."""

    sample: SceneSample
    true: NDArray[np.bool_]
    """(N + 1, 64, 64, 64), the scene first."""


def read_views(source: SceneSource, decoder: nn.Module, size_px: int, count: int) -> list[View]:
    """Return at most ``count`` views of a source, drawn without regard to any model.

    Where voxels are not stored, what the decoder makes of the latents is taken for the truth.
    """
    stream = StreamConfig(size_px=size_px)
    samples = SceneLoader([source], stream, decode_sample, stop=min(count, len(source)))
    return [View(sample, true_voxels(source.latents, sample, decoder)) for sample in samples]


def true_voxels(latents: Dataset, sample: SceneSample, decoder: nn.Module) -> NDArray[np.bool_]:
    """Return the voxels (N + 1, 64, 64, 64) of a view."""
    columns = ["view_index", "occupancy"]
    [row] = latents.rows_of(sample.layout_id, columns, view_index=sample.view_index)
    if row["occupancy"] is None:
        return reconstruct(decoder, sample)
    return unpack_occupancy(row["occupancy"].tobytes())


@torch.inference_mode()
def reconstruct(decoder: nn.Module, sample: SceneSample) -> NDArray[np.bool_]:
    """Return what the decoder makes of a view's true latents, (N + 1, 64, 64, 64)."""
    latents = np.stack([sample.scene_latent, *sample.instance_latents]).astype(np.float32)
    device = next(decoder.parameters()).device
    grids = [decoder(latent[None])[0, 0] > 0 for latent in torch.from_numpy(latents).to(device)]
    return np.asarray(torch.stack(grids).cpu().numpy())


def constant_grid(training: SceneSource, decoder: nn.Module, num_views: int) -> NDArray[np.bool_]:
    """Return the best grid (64, 64, 64) for the instances of some training views, all alike."""
    views = read_views(training, decoder, 16, num_views)
    return fit_constant(grid for view in views for grid in view.true[1:]).grid


def constant_scores(grid: NDArray[np.bool_], views: Sequence[View]) -> dict[str, float]:
    """Score one grid for every instance: what needs no image."""
    return score_grids((np.broadcast_to(grid, view.true[1:].shape) for view in views), views)


def sample_views(
    model: SceneModel, decoder: nn.Module, views: Sequence[View], sampler: SamplerConfig
) -> Iterator[NDArray[np.float32]]:
    """Yield the logits (N, 64, 64, 64) of every view's instances; its noise is always the same."""
    for view in views:
        images = SceneImages(view.sample.scene_image, view.sample.instance_images)
        seed = seed_for(0, "held out", view.sample.layout_id, view.sample.view_index)
        yield sample_scene(model, decoder, images, sampler, seed)[1:]


def score_grids(instances: Iterable[NDArray[np.bool_]], views: Sequence[View]) -> dict[str, float]:
    """Return the mean scores of the instances (N, 64, 64, 64) of every view, by name.

    The scene's IoU is that of the union of its instances; ``missing`` is the share of the
    instances that came out empty.
    """
    instance_iou, scene_iou, empty = [], [], []
    for predicted, view in zip(instances, views, strict=True):
        true = view.true[1:]
        instance_iou += [voxel_iou(*pair) for pair in zip(predicted, true, strict=True)]
        scene_iou.append(voxel_iou(predicted.any(axis=0), true.any(axis=0)))
        empty += [not grid.any() for grid in predicted]
    return {
        "instance IoU": float(np.mean(instance_iou)),
        "scene IoU": float(np.mean(scene_iou)),
        "missing": float(np.mean(empty)),
    }


def part_of(source: SceneSource, part: str, val_fraction: float) -> SceneSource:
    """Return some of a workspace's views.

    Args:
        source: all of them.
        part: ``train`` or ``val``, layouts as ``datagen train`` splits them; ``last``, the last
            view of each layout of ``train``; ``rest``, the others of them; ``all``.
        val_fraction: share of the layouts in ``val``.
    """
    held_out = validation_layouts(source.layout_id.tolist(), val_fraction)
    is_other = np.isin(source.layout_id, sorted(held_out))
    is_last = is_last_view(source)
    parts = {
        "all": np.ones(len(source), np.bool_),
        "train": ~is_other,
        "val": is_other,
        "last": is_last & ~is_other,
        "rest": ~is_last & ~is_other,
    }
    if part not in parts:
        raise SystemExit(f"{part!r} is no part of a workspace. Expected {', '.join(parts)}.")
    return source.select(parts[part])


def is_last_view(source: SceneSource) -> NDArray[np.bool_]:
    """Say of every view (N,) whether it is its layout's last, and not its only one."""
    same_as_before = source.layout_id[1:] == source.layout_id[:-1]
    ends = np.append(~same_as_before, True)
    return ends & np.append(False, same_as_before)


def table(rows: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Return a table in Markdown, a column a key of the first row."""
    columns = list(rows[0][1])
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [
        f"| {name} | {' | '.join(str(values[column]) for column in columns)} |"
        for name, values in rows
    ]
    return "\n".join(lines)


def link_inputs(root: Path, workspace: Path, names: Sequence[str]) -> None:
    """Make a workspace that shares some of another's datasets."""
    workspace.mkdir(parents=True, exist_ok=True)
    for name in names:
        link = workspace / name
        if not link.exists():
            link.symlink_to((root / name).resolve(), target_is_directory=True)
