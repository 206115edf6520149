"""Small renders and latents in which every view can be told from every other."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from datagen.core.seeding import rng_for
from datagen.shards import Dataset, Row, open_dataset
from datagen.shards.declared import GRID_BYTES, LATENTS, RENDERS
from datagen.training import SceneSource
from tests.shards.tiny import png, write

SIZE_PX = 20


def write_scenes(
    root: Path,
    num_views: Mapping[int, int],
    *,
    num_instances: int = 2,
    scenes_per_shard: int = 2,
    noise: bool = False,
) -> Path:
    """Write both datasets: ``num_views`` kept views of each layout, and a dropped one before them.

    Instance i of layout l stands as the i-th bar from the left; its latents are i + 1, the scene's
    -l - view / 8. With ``noise`` latents and colours are random.
    """
    views = [(layout, view) for layout, count in num_views.items() for view in range(count + 1)]
    renders = [_render_row(*view, num_instances, noise) for view in views]
    latents = [_latent_row(*view, num_instances, noise) for view in views if view[1]]
    made = write(
        root, "render", "renders", RENDERS.schema, renders, {}, scenes_per_shard=scenes_per_shard
    )
    inputs: dict[str, Dataset] = {"renders": made}
    write(
        root,
        "encode",
        "latents",
        LATENTS.schema,
        latents,
        inputs,
        scenes_per_shard=scenes_per_shard,
    )
    return root


def source_of(root: Path) -> SceneSource:
    return SceneSource.open(open_dataset(root / "latents"), open_dataset(root / "renders"))


def _render_row(layout_id: int, view_index: int, num_instances: int, noise: bool) -> Row:
    row: Row = dict.fromkeys(RENDERS.schema.names)
    row |= {"layout_id": layout_id, "view_index": view_index, "kept": view_index > 0}
    row |= {"world_to_camera": np.eye(4), "intrinsics": np.eye(3)}
    if not row["kept"]:
        return row
    instance_map = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    for i in range(num_instances):
        instance_map[4:16, 2 + 4 * i : 5 + 4 * i] = i + 1
    rgba = np.full((SIZE_PX, SIZE_PX, 4), 255, np.uint8)
    if noise:
        rng = rng_for(0, "image", layout_id, view_index)
        rgba[..., :3] = rng.integers(0, 256, (SIZE_PX, SIZE_PX, 3))
    return row | {"rgb": png(rgba), "instance_map": png(instance_map)}


def _latent_row(layout_id: int, view_index: int, num_instances: int, noise: bool) -> Row:
    latents = np.empty((num_instances + 1, 8, 16, 16, 16), np.float16)
    latents[:] = np.arange(num_instances + 1).reshape(-1, 1, 1, 1, 1)
    latents[0] = -layout_id - view_index / 8
    if noise:
        latents[:] = rng_for(1, "latents", layout_id, view_index).normal(size=latents.shape)
    return {
        "layout_id": layout_id,
        "view_index": view_index,
        "world_to_canonical": np.eye(4),
        "num_instances": num_instances,
        "scene_latent": latents[0],
        "instance_latents": latents[1:],
        "occupancy": np.zeros((num_instances + 1, GRID_BYTES), np.uint8),
    }
