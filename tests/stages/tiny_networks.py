"""Arguments of networks small enough for a test, and an image with its masks."""

from pathlib import Path

import numpy as np
from PIL import Image

MODEL = {
    "flow": {
        "resolution": 16,
        "in_channels": 8,
        "out_channels": 8,
        "model_channels": 32,
        "cond_channels": 32,
        "num_blocks": 2,
        "num_heads": 2,
        "patch_size": 4,
        "scene_context_attn_num": 1,
    },
    "image_encoder": {"size_px": 32, "channels": 32, "num_blocks": 1, "num_heads": 2},
}


def write_pair(folder: Path, name: str, num_instances: int = 3) -> tuple[str, str]:
    folder.mkdir(exist_ok=True)
    ids = np.zeros((48, 64), np.uint8)
    for index in range(num_instances):
        ids[6 * (index // 8) : 6 * (index // 8) + 5, 8 * (index % 8) : 8 * (index % 8) + 6] = (
            index + 1
        ) * 3
    Image.fromarray(np.dstack([ids * 7 + 1, ids, 255 - ids])).save(folder / f"{name}.jpg")
    Image.fromarray(ids).save(folder / f"{name}_seg.png")
    return str(folder / f"{name}.jpg"), str(folder / f"{name}_seg.png")


FLOW = {
    "resolution": 64,
    "in_channels": 8,
    "out_channels": 8,
    "model_channels": 32,
    "cond_channels": 32,
    "num_blocks": 1,
    "num_heads": 2,
    "io_block_channels": [16],
}


MESH = {
    "resolution": 64,
    "model_channels": 256,
    "latent_channels": 8,
    "num_blocks": 1,
    "num_heads": 2,
    "representation_config": {"use_color": True},
}


GAUSSIANS = {
    "resolution": 64,
    "model_channels": 32,
    "latent_channels": 8,
    "num_blocks": 1,
    "num_heads": 2,
    "representation_config": {
        "lr": {
            "_xyz": 1.0,
            "_features_dc": 1.0,
            "_opacity": 1.0,
            "_scaling": 1.0,
            "_rotation": 0.1,
        },
        "perturb_offset": True,
        "voxel_size": 1.5,
        "num_gaussians": 4,
        "3d_filter_kernel_size": 9e-4,
        "scaling_bias": 4e-3,
        "opacity_bias": 0.1,
    },
}
