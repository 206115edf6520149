"""The trained whole: an image encoder and a scene-context flow model, in one module."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from datagen.core.seeding import seed_for
from datagen.models.image_encoder import ImageEncoder
from datagen.models.scene_context_flow import SparseStructureSceneContextFlowModel

ModelSize = Literal["small", "iscene-L"]

LATENT = {"resolution": 16, "in_channels": 8, "out_channels": 8}

MODEL_ARGS: dict[ModelSize, dict[str, Any]] = {
    "small": {
        "flow": {
            **LATENT,
            "model_channels": 256,
            "cond_channels": 192,
            "num_blocks": 4,
            "num_heads": 4,
            "patch_size": 4,
            "qk_rms_norm": True,
            "predicts": "x_0",
            "data_std": 0.2,
            "scene_context_attn_num": 2,
        },
        "image_encoder": {"size_px": 128, "channels": 192, "num_blocks": 2, "num_heads": 3},
    },
    "iscene-L": {
        "flow": {
            **LATENT,
            "model_channels": 1024,
            "cond_channels": 1024,
            "num_blocks": 24,
            "num_heads": 16,
            "patch_size": 1,
            "qk_rms_norm": True,
            "scene_context_attn_num": 5,
        },
        "image_encoder": {"size_px": 512, "channels": 1024, "num_blocks": 4, "num_heads": 16},
    },
}
"""The flow model's numbers of "iscene-L" are the paper's; "small" learns on a CPU in minutes.

Latents of surfaces in empty space say the same thing many times over: at spread 1, noise hides them
only close to t = 1, and hardly a step would learn to look at the images. Hence the small spread.
"""


class SceneModel(nn.Module):
    """Velocities of a scene and its instances, from their images.

    One stack of grids, ``[scene, instance 0, instance 1, …]``, goes through every call, so that
    ``sample_flow`` can take the model as it is. Latents in and out are normalised: see
    ``normalize``.
    """

    def __init__(self, flow: dict[str, Any], image_encoder: dict[str, Any]) -> None:
        super().__init__()
        self.flow = SparseStructureSceneContextFlowModel(**flow)
        self.image_encoder = ImageEncoder(**image_encoder)
        self.latent_mean: Tensor
        self.latent_std: Tensor
        shape = (flow["in_channels"], 1, 1, 1)
        self.register_buffer("latent_mean", torch.zeros(shape))
        self.register_buffer("latent_std", torch.ones(shape))

    def encode_images(self, images: Tensor) -> Tensor:
        """Turn uint8 images (B, N + 1, S, S, 3), scene first, into tokens (B, N + 1, T, C)."""
        tokens: Tensor = self.image_encoder(images)
        return tokens

    def forward(self, x: Tensor, t_times_1000: Tensor, cond: Tensor) -> Tensor:
        """Return the velocities (B, N + 1, 8, R, R, R) of a stack of grids at t (B,)."""
        v_instances, v_scene = self.flow.forward_scene(
            x[:, 1:], x[:, 0], t_times_1000, cond[:, 1:], cond[:, 0]
        )
        return torch.cat([v_scene[:, None], v_instances], dim=1)

    def normalize(self, latent: Tensor) -> Tensor:
        """Turn the encoder's latents (…, 8, R, R, R) into what the flow model works on."""
        return (latent - self.latent_mean) / self.latent_std

    def denormalize(self, x_0: Tensor) -> Tensor:
        """Turn samples (…, 8, R, R, R) into latents for the decoder."""
        return x_0 * self.latent_std + self.latent_mean


def build_model(size: ModelSize, seed: int) -> SceneModel:
    """Return a freshly initialised model; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "model"))
        return SceneModel(**MODEL_ARGS[size])
