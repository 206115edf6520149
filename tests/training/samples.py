"""A sample in which every instance can be told from every other."""

import numpy as np

from datagen.training import (
    SceneSample,
)


def sample_of(num_instances: int, layout_id: int = 0) -> SceneSample:
    """Instance i has latent i + 1 and an image of that colour; the scene has latent 0."""
    ids = np.arange(1, num_instances + 1)
    return SceneSample(
        layout_id=layout_id,
        view_index=0,
        scene_latent=np.zeros((8, 2, 2, 2), np.float16),
        instance_latents=np.broadcast_to(
            ids.reshape(-1, 1, 1, 1, 1), (num_instances, 8, 2, 2, 2)
        ).astype(np.float16),
        scene_image=np.zeros((4, 4, 3), np.uint8),
        instance_images=np.broadcast_to(ids.reshape(-1, 1, 1, 1), (num_instances, 4, 4, 3)).astype(
            np.uint8
        ),
        instance_map=np.zeros((4, 4), np.uint8),
    )
