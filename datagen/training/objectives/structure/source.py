"""The source of occupancy latents: views of a workspace made with ``encode --store latents``."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datagen.shards.declared import LATENTS
from datagen.shards.tensors import read_tensor
from datagen.training.data.sources import KEYS, ViewSource, corrupt

LATENT_COLUMNS = (*KEYS, "num_instances", "scene_latent", "instance_latents")


class RawLatents(NamedTuple):
    """A stored row of ``latents``, not yet decoded."""

    where: str
    """Shard and row, for messages."""
    layout_id: int
    view_index: int
    num_instances: int
    scene_latent: bytes
    instance_latents: bytes


class SceneSource(ViewSource[RawLatents]):
    """The views of one workspace, with the latents of their occupancy grids."""

    columns = LATENT_COLUMNS

    def raw_row(self, where: str, *values: Any) -> RawLatents:
        """Return a row of ``latents`` from the values of its ``columns``."""
        return RawLatents(where, *values)

    def decode_latents(self, raw: RawLatents) -> NDArray[np.float16]:
        """Return a row's latents (N + 1, 8, 16, 16, 16), the scene's first.

        Raises:
            DatasetError: they have another shape or are not finite; shard and row are named.
        """
        scene, instances = decode_latents(raw)
        return np.concatenate([scene[None], instances])


def decode_latents(raw: RawLatents) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """Return the latents of a scene (8, 16, 16, 16) and of its instances (N, 8, 16, 16, 16).

    Raises:
        DatasetError: they have another shape or are not finite; shard and row are named.
    """
    try:
        scene, instances = (
            read_tensor(LATENTS.schema.field(name), getattr(raw, name)).astype(np.float16)
            for name in ("scene_latent", "instance_latents")
        )
    except (ValueError, TypeError) as error:  # bytes for another shape; null
        raise corrupt(raw, raw.where, f"its latents cannot be used: {error}") from error
    if len(instances) != raw.num_instances:
        problem = f"it has {len(instances)} latents of {raw.num_instances} instances"
        raise corrupt(raw, raw.where, problem)
    if not (np.isfinite(scene).all() and np.isfinite(instances).all()):
        raise corrupt(raw, raw.where, "a latent is not finite")
    return scene, instances
