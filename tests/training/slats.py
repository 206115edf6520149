"""Small renders and features on voxels, and the smallest model that learns them."""

from pathlib import Path

import numpy as np

from datagen.core.seeding import rng_for
from datagen.shards.declared import LATENTS, RENDERS
from tests.shards.tiny import png, write

SIZE_PX = 32
TINY = {
    "flow": {
        "resolution": 64,
        "in_channels": 8,
        "out_channels": 8,
        "model_channels": 32,
        "cond_channels": 16,
        "num_blocks": 1,
        "num_heads": 2,
        "io_block_channels": [16],
        "qk_rms_norm": True,
    },
    "image_encoder": {"size_px": SIZE_PX, "channels": 16, "num_blocks": 1, "num_heads": 2},
}


def write_slats(root: Path, num_views: int, channels: int = 3) -> Path:
    """Write views of two bars: what is seen of each is one colour, and so are its features."""
    renders, latents = [], []
    for layout_id in range(num_views):
        rng = rng_for(0, "slats", layout_id)
        colors = rng.integers(0, 256, (2, 3))
        instance_map = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
        instance_map[4:28, 4:14], instance_map[4:28, 18:28] = 1, 2
        palette = np.concatenate([[[0, 0, 0]], colors])
        rgba = np.dstack([palette[instance_map], 255 * (instance_map > 0)]).astype(np.uint8)
        keys = {"layout_id": layout_id, "view_index": 0}
        renders.append(
            dict.fromkeys(RENDERS.schema.names)
            | keys
            | {"kept": True, "rgb": png(rgba), "instance_map": png(instance_map)}
            | {"world_to_camera": np.eye(4), "intrinsics": np.eye(3)}
        )
        bars = [block(layout_id + 3), block(layout_id + 4)]
        coords = np.concatenate([*bars, *bars]).astype(np.uint8)  # the scene's first
        own = np.repeat(colors / 255, [len(bar) for bar in bars], axis=0)
        features = np.concatenate([own, own])[:, np.arange(channels) % 3]
        counts = [sum(map(len, bars)), *map(len, bars)]
        latents.append(
            dict.fromkeys(LATENTS.schema.names)
            | keys
            | {"world_to_canonical": np.eye(4), "num_instances": 2, "slat_counts": counts}
            | {"slat_coords": coords, "slat_features": features.astype(np.float16).ravel()}
            | {"slat_seen": np.ones(len(coords), np.uint16)}
        )
    made = write(root, "render", "renders", RENDERS.schema, renders, {}, scenes_per_shard=4)
    schema = LATENTS.full_schema
    inputs = {"renders": made}
    store = {"store": "latents,slat_features"}
    write(root, "encode", "latents", schema, latents, inputs, scenes_per_shard=4, fields=store)
    return root


def block(size: int) -> np.ndarray:
    """Return the voxels of a bar one voxel thick, 2·size of them."""
    return np.argwhere(np.ones((2, size % 7 + 3, 1)))
